//! A way to a server that breaks: it passes everything on, and ends the first connection after so many bytes of the
//! server's answers, as a server does that is killed at that moment. Later connections last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Relay {
    pub address: String,
    broke: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// To a server at `port` of loopback; `bytes` of its answers arrive on the first connection.
    pub async fn breaking_after(bytes: usize, port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let broke = Arc::new(AtomicBool::new(false));
        let told = broke.clone();
        let accepting = tokio::spawn(async move {
            let connections = AtomicUsize::new(0);
            while let Ok((near, _)) = listener.accept().await {
                let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
                let told = told.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    pass_on(near, far, first.then_some(bytes)).await;
                    if first {
                        told.store(true, Ordering::SeqCst);
                    }
                });
            }
        });
        Ok(Self {
            address,
            broke,
            accepting,
        })
    }

    /// Whether the first connection has ended.
    pub fn broke(&self) -> bool {
        self.broke.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until one side ends, or the server has said as much as it may.
async fn pass_on(mut near: TcpStream, mut far: TcpStream, may_say: Option<usize>) {
    let Some(mut left) = may_say else {
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        return;
    };
    let (mut asked, mut answer) = ([0; 4096], [0; 4096]);
    while left > 0 {
        let passed = tokio::select! {
            read = near.read(&mut asked) => match read {
                Ok(count) if count > 0 => far.write_all(&asked[..count]).await,
                _ => return,
            },
            read = far.read(&mut answer) => match read {
                Ok(count) if count > 0 => {
                    let count = count.min(left);
                    left -= count;
                    near.write_all(&answer[..count]).await
                }
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}
