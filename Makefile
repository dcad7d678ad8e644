# The verbs. The work is in scripts/, one file each, with a header that says what it does.

export PG_CONFIG PG T ONCE ENGINE

.PHONY: all install demo test soak bench image image-check check-versions lint setup clean-cluster help
.DEFAULT_GOAL := all

all: ## build the extension's library and the rotator binary (PG_CONFIG=… or PG=NN choose the server's headers)
	@scripts/build.sh

install: ## copy library, control file and install script to the folders PG_CONFIG names (DESTDIR=… goes before them)
	@scripts/install.sh

demo: ## set up, build, start a private cluster, load sample secrets, deliver to the console (ONCE=1: then stop)
	@scripts/demo.sh

test: ## set up, build and run every test (PG=NN: on that server version; T=filter: only tests whose name has it)
	@scripts/test.sh

soak: ## the same tests at the full counts
	@ROTATOR_SOAK=1 scripts/test.sh

bench: ## measure, print a table and write target/bench/results.jsonl (T=filter: only benches whose name has it)
	@scripts/bench.sh

image: ## build the images of database and sidecar, with docker, podman or buildah (ENGINE=… chooses)
	@scripts/image.sh

image-check: ## build both images with buildah, also without a registry, and start what was built (root)
	@scripts/image_check.sh

check-versions: ## whether the library compiles for every supported PostgreSQL
	@scripts/check_versions.sh

lint: ## formatting and clippy, warnings are errors
	@scripts/lint.sh

setup: ## install what building, testing and the demo need (Debian and Ubuntu)
	@scripts/setup.sh

clean-cluster: ## stop and remove the private clusters, the copies of PostgreSQL and the roots they are in
	@scripts/private_pg.sh clean

help: ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'
