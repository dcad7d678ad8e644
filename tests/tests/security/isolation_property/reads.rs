//! Random selects over the views: filters, joins, aggregates, windows, common table expressions, LATERAL, set operations.
//! `¤name¤` stands for a view, so that the same statement can be put to the truth.

use rotator_tests::Chance;

use super::world::{View, World};

/// The statement with the views of this schema.
pub fn put_to(schema: &str, template: &str) -> String {
    template
        .split('¤')
        .enumerate()
        .map(|(at, part)| match at % 2 {
            0 => part.to_owned(),
            _ => format!("{schema}.{part}"),
        })
        .collect()
}

pub struct Draw<'a> {
    pub world: &'a World,
    pub chance: &'a mut Chance,
    /// Draws for a trusted authenticator.
    pub trusted: bool,
}

impl<'a> Draw<'a> {
    fn view(&mut self) -> &'a View {
        self.chance.one_of(&self.world.views)
    }

    fn column(&mut self, view: &'a View) -> &'a (String, String) {
        self.chance.one_of(&view.columns)
    }

    /// Up to four columns of the view, under this alias.
    fn columns(&mut self, view: &'a View, alias: &str) -> String {
        let some: Vec<String> = (0..=self.chance.below(4))
            .map(|_| format!("{alias}.{}", self.column(view).0))
            .collect();
        some.join(", ")
    }

    /// A value that stands in that column of some tenant, as a literal.
    fn value(&mut self, view: &View, column: &str) -> String {
        let key = (view.name.clone(), column.to_owned());
        match self.world.values.get(&key) {
            Some(values) => format!("'{}'", self.chance.one_of(values).replace('\'', "''")),
            None => "null".to_owned(),
        }
    }

    fn pair(&mut self, left: &'a View, right: &'a View) -> Option<(&'a str, &'a str)> {
        let pairs: Vec<(&str, &str)> = left
            .columns
            .iter()
            .flat_map(|(name, kind)| {
                right
                    .columns
                    .iter()
                    .filter(move |(_, other)| other == kind && kind != "jsonb")
                    .map(move |(other, _)| (name.as_str(), other.as_str()))
            })
            .collect();
        (!pairs.is_empty()).then(|| *self.chance.one_of(&pairs))
    }

    pub fn predicate(&mut self, view: &'a View, alias: &str, depth: usize) -> String {
        let column = &self.column(view).0;
        let mine = format!("{alias}.{column}");
        match self.chance.below(if depth == 0 { 7 } else { 12 }) {
            0 => format!("{mine} = {}", self.value(view, column)),
            1 => format!("{mine}::text = {}", self.value(view, column)),
            2 => format!("{mine} is {}null", self.chance.one_of(&["", "not "])),
            3 => {
                let values: Vec<String> = (0..4).map(|_| self.value(view, column)).collect();
                format!("{mine}::text in ({})", values.join(", "))
            }
            4 => format!(
                "{mine}::text {} {}",
                self.chance.one_of(&["<", ">="]),
                self.value(view, column)
            ),
            5 => format!(
                "{mine}::text like '%{}%'",
                self.chance.one_of(&["zq", "a", "-1", "0"])
            ),
            6 => (*self.chance.one_of(&[
                "true",
                "1 = 1",
                "random() >= 0",
                "current_user is not null",
            ]))
            .to_owned(),
            7 => format!("not ({})", self.predicate(view, alias, depth - 1)),
            8 | 9 => format!(
                "({} {} {})",
                self.predicate(view, alias, depth - 1),
                self.chance.one_of(&["or", "and"]),
                self.predicate(view, alias, depth - 1)
            ),
            10 => {
                let other = self.view();
                match self.pair(view, other) {
                    Some((left, right)) => format!(
                        "{}exists (select from ¤{}¤ as e where e.{right} = {alias}.{left} and {})",
                        self.chance.one_of(&["", "not "]),
                        other.name,
                        self.predicate(other, "e", 0)
                    ),
                    None => "true".to_owned(),
                }
            }
            _ => {
                let other = self.view();
                match self.pair(view, other) {
                    Some((left, right)) => format!(
                        "{alias}.{left} in (select i.{right} from ¤{}¤ as i)",
                        other.name
                    ),
                    None => "true".to_owned(),
                }
            }
        }
    }

    /// A select whose rows don't depend on the order in which they are found.
    pub fn select(&mut self) -> String {
        let (v, w) = (self.view(), self.view());
        let (name, other) = (&v.name, &w.name);
        let filter = self.predicate(v, "a", 2);
        let listed = self.columns(v, "a");
        let one = format!("a.{}", self.column(v).0);
        let two = format!("a.{}", self.column(v).0);
        let from = format!("from ¤{name}¤ as a where {filter}");
        let joined = self.pair(v, w);
        match (self.chance.below(16), joined) {
            (0, _) => {
                let numbers: Vec<String> = (1..=listed.split(", ").count())
                    .map(|n| n.to_string())
                    .collect();
                format!(
                    "select {listed} {from} order by {} {}limit {}",
                    numbers.join(", "),
                    ["", "offset 1 "][self.chance.below(2)],
                    self.chance.below(6)
                )
            }
            (1, _) => format!(
                "select count(*), count({one}), min({one}::text), max({two}::text), count(distinct {two}) {from}"
            ),
            (2, _) => format!(
                "select {one}, count(*), string_agg({two}::text, ',' order by {two}::text) {from} group by {one} having count(*) > 0"
            ),
            (3, _) => format!(
                "select {one}::text, {two}::text, count(*) {from} group by grouping sets (({one}), ({two}), ())"
            ),
            (4, _) => format!(
                "select {one}, count(*) over (), dense_rank() over (partition by {one}::text order by {two}::text) {from}"
            ),
            (5, _) => format!("select lag({one}::text) over (order by {one}::text) {from}"),
            (6, _) => format!(
                "with c as materialized (select * from ¤{name}¤) select {listed} from c as a where {filter}"
            ),
            (7, _) => format!(
                "with c as (select {one} as x {from}) select x, (select count(*) from c as d where d.x is not distinct from c.x) from c"
            ),
            (8, Some((left, right))) => format!(
                "select {listed}, b.{right} from ¤{name}¤ as a {} join ¤{other}¤ as b on a.{left} = b.{right} where {filter}",
                self.chance.one_of(&["", "left", "right", "full"])
            ),
            (9, Some((left, right))) => format!(
                "select {listed}, l.n from ¤{name}¤ as a cross join lateral (select count(*) as n from ¤{other}¤ as b where b.{right} = a.{left}) as l where {filter}"
            ),
            (10, Some((left, right))) => format!(
                "select a.{left}::text from ¤{name}¤ as a where {filter} {} select b.{right}::text from ¤{other}¤ as b",
                self.chance
                    .one_of(&["union", "union all", "except", "intersect"])
            ),
            (11, _) => format!("select distinct {one}::text {from}"),
            (12, _) => format!("select to_jsonb(r) from (select {listed} {from}) as r"),
            (13, _) => format!(
                "select (select max(b.{}::text) from ¤{other}¤ as b), {listed} {from}",
                self.column(w).0
            ),
            (14, _) => format!(
                "with recursive walk (n) as (select 1 union all select n + 1 from walk where n < (select least(count(*), 5) from ¤{name}¤)) select n, {listed} from walk, ¤{name}¤ as a where {filter}"
            ),
            _ => format!("select {listed} {from}"),
        }
    }
}
