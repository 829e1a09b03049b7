//! The table of request parameters, `data/stripe_parameters.tsv`, as one tree per endpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// What one parameter may be.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) kinds: Vec<Kind>,
    pub(super) required: bool,
    pub(super) may_be_empty: bool,
    pub(super) fields: BTreeMap<String, Schema>,
    pub(super) item: Option<Box<Schema>>,
    /// Keys whose content is not checked.
    pub(super) unchecked: Vec<&'static str>,
    /// Known from this API version on.
    from: &'static str,
    /// Unknown from this API version on.
    until: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Int,
    Num,
    Bool,
    Str {
        length_max: usize,
    },
    Enum(Vec<&'static str>),
    /// Free keys with text values.
    Map,
    Object,
    List,
}

impl Schema {
    pub(super) fn is_known_in(&self, version: &str) -> bool {
        self.from <= version && self.until.is_none_or(|until| version < until)
    }

    fn child(&mut self, part: &str) -> &mut Self {
        match part {
            "" => self.item.get_or_insert_default(),
            name => self.fields.entry(name.to_owned()).or_default(),
        }
    }

    fn at(&mut self, path: &str) -> &mut Self {
        let (first, rest) = path.split_once('[').unwrap_or((path, ""));
        let mut node = self.child(first);
        if !rest.is_empty() {
            for part in rest[..rest.len() - 1].split("][") {
                node = node.child(part);
            }
        }
        node
    }
}

/// Limit: strings without a length of their own.
const LENGTH_MAX: usize = 5000;

static TABLE: LazyLock<HashMap<&'static str, Schema>> = LazyLock::new(|| {
    let mut table = read(include_str!("../../data/stripe_parameters.tsv"));
    for (endpoints, path, types, from, until) in CHANGES {
        for endpoint in *endpoints {
            let node = table.entry(endpoint).or_default().at(path);
            (node.from, node.until) = (from, *until);
            if !types.is_empty() {
                node.kinds = vec![kind(types, &HashMap::new())];
            }
        }
    }
    table
});

const INTENTS: &[&str] = &[
    "POST /v1/payment_intents",
    "POST /v1/payment_intents/{intent}",
    "POST /v1/payment_intents/{intent}/confirm",
    "POST /v1/setup_intents",
];
const SESSIONS: &[&str] = &["POST /v1/checkout/sessions"];
const CREATES: &[&str] = &["POST /v1/payment_intents", "POST /v1/payment_intents/{intent}/confirm"];

type Change = (&'static [&'static str], &'static str, &'static str, &'static str, Option<&'static str>);

/// What changed after the version of the table. From <https://docs.stripe.com/changelog>.
const CHANGES: &[Change] = &[
    (INTENTS, "payment_method_types", "", "", Some("2026-09-30.endive")),
    (SESSIONS, "payment_method_types", "", "", Some("2026-09-30.endive")),
    (INTENTS, "allowed_payment_method_types", "list", "2026-07-29.dahlia", None),
    (INTENTS, "allowed_payment_method_types[]", "str", "2026-07-29.dahlia", None),
    (SESSIONS, "allowed_payment_method_types", "list", "2026-09-30.endive", None),
    (SESSIONS, "allowed_payment_method_types[]", "str", "2026-09-30.endive", None),
    (
        CREATES,
        "payment_method_options[card][stored_credential_usage]",
        "enum:recurring|unscheduled|installment",
        "2026-10-28.endive",
        None,
    ),
];

/// The parameters of an endpoint such as `POST /v1/customers`.
pub(super) fn of(endpoint: &str) -> Option<&'static Schema> {
    TABLE.get(endpoint)
}

/// Endpoints of the table.
#[cfg(test)]
pub(super) fn endpoints() -> impl Iterator<Item = &'static str> {
    TABLE.keys().copied()
}

fn read(text: &'static str) -> HashMap<&'static str, Schema> {
    let mut lists = HashMap::new();
    let mut table: HashMap<&'static str, Schema> = HashMap::new();
    let mut endpoint = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, values)) = line.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            lists.insert(name, values.split('|').collect::<Vec<_>>());
        } else if let Some((path, types)) = line.split_once('\t') {
            row(table.entry(endpoint).or_default(), path, types, &lists);
        } else {
            endpoint = line;
            table.entry(endpoint).or_default();
        }
    }
    table
}

fn row(root: &mut Schema, path: &str, types: &'static str, lists: &HashMap<&str, Vec<&'static str>>) {
    if let Some(keys) = types.strip_prefix("any:") {
        let parent = match path.strip_suffix("[*]") {
            Some(path) => root.at(path),
            None => root,
        };
        parent.unchecked = choices(keys, lists);
        return;
    }
    let bare = types.trim_end_matches(['!', '?']);
    let node = root.at(path);
    node.required = types[bare.len()..].contains('!');
    node.may_be_empty = types[bare.len()..].contains('?');
    node.kinds = bare.split('/').map(|text| kind(text, lists)).collect();
}

fn kind(text: &'static str, lists: &HashMap<&str, Vec<&'static str>>) -> Kind {
    match text.split_once(':').unwrap_or((text, "")) {
        ("int", _) => Kind::Int,
        ("num", _) => Kind::Num,
        ("bool", _) => Kind::Bool,
        ("enum", values) => Kind::Enum(choices(values, lists)),
        ("map", _) => Kind::Map,
        ("obj", _) => Kind::Object,
        ("list", _) => Kind::List,
        (_, length) => Kind::Str { length_max: length.parse().unwrap_or(LENGTH_MAX) },
    }
}

fn choices(text: &'static str, lists: &HashMap<&str, Vec<&'static str>>) -> Vec<&'static str> {
    match text.strip_prefix('@') {
        Some(name) => lists.get(name).cloned().unwrap_or_default(),
        None => text.split('|').collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_completely() {
        assert_eq!(endpoints().count(), 43);
        let create = of("POST /v1/payment_intents").unwrap();
        assert!(create.fields["amount"].required);
        let suffix = &create.fields["statement_descriptor_suffix"].kinds;
        assert!(matches!(suffix[..], [Kind::Str { length_max: 22 }]));
        assert!(create.fields["payment_method_options"].unchecked.contains(&"sepa_debit"));
        assert!(matches!(create.fields["off_session"].kinds[..], [Kind::Bool, Kind::Enum(_)]));
    }

    #[test]
    fn payment_method_types_ends_with_endive() {
        let field = &of("POST /v1/checkout/sessions").unwrap().fields["payment_method_types"];
        assert!(field.is_known_in("2026-05-27.dahlia") && !field.is_known_in("2026-09-30.endive"));
    }
}
