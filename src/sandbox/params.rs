//! Parameters checked against the table and given types, as a JSON tree.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::errors::ApiError;
use super::form::Node;
use super::schema::{Kind, Schema};

/// Free text pairs on an object.
pub(super) type Metadata = BTreeMap<String, String>;

/// Limits of metadata: pairs, and characters of a name and a value.
const METADATA_PAIRS_MAX: usize = 50;
const METADATA_KEY_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;

/// An empty value of one of these is refused; elsewhere an empty text unsets.
const NEVER_EMPTY: [&str; 6] = ["customer", "payment_method", "payment_intent", "charge", "currency", "mode"];

/// Checks a request's parameters. Without `strict`, unknown ones are dropped instead of refused.
pub(super) fn check(schema: &Schema, node: Node, version: &str, strict: bool) -> Result<Params, ApiError> {
    Check { version, strict }.object(schema, node, "").map(Params)
}

struct Check<'a> {
    version: &'a str,
    strict: bool,
}

impl Check<'_> {
    fn object(&self, schema: &Schema, node: Node, path: &str) -> Result<Value, ApiError> {
        let Node::Branch(children) = node else { return Err(ApiError::param(path, "Invalid object")) };
        let mut object = Map::new();
        for (name, child) in children {
            let child_path = if path.is_empty() { name.clone() } else { format!("{path}[{name}]") };
            let known = schema.fields.get(&name).filter(|field| field.is_known_in(self.version));
            if let Some(field) = known {
                object.insert(name, self.value(field, child, &child_path)?);
            } else if schema.unchecked.contains(&name.as_str()) {
                object.insert(name, plain(child));
            } else if self.strict {
                let message = format!("Received unknown parameter: {child_path}");
                return Err(ApiError::param(&child_path, message).code("parameter_unknown"));
            }
        }
        for (name, field) in &schema.fields {
            if field.required && !object.contains_key(name) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}[{name}]") };
                return Err(ApiError::missing_param(&path));
            }
        }
        Ok(Value::Object(object))
    }

    fn value(&self, schema: &Schema, node: Node, path: &str) -> Result<Value, ApiError> {
        let text = match node {
            Node::Text(text) => text,
            branch @ Node::Branch(_) => return self.branch(schema, branch, path),
        };
        let mut refusal = None;
        for kind in &schema.kinds {
            match leaf(kind, schema, &text, path) {
                Ok(value) => return Ok(value),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or_else(|| ApiError::param(path, "Invalid value")))
    }

    fn branch(&self, schema: &Schema, node: Node, path: &str) -> Result<Value, ApiError> {
        if schema.kinds.iter().any(|kind| matches!(kind, Kind::List)) {
            return self.list(schema, node, path);
        }
        if schema.kinds.iter().any(|kind| matches!(kind, Kind::Map)) {
            return map(node, path);
        }
        if schema.kinds.iter().any(|kind| matches!(kind, Kind::Object)) {
            return self.object(schema, node, path);
        }
        Err(match schema.kinds.first() {
            Some(Kind::Int) => ApiError::param(path, "Invalid integer").code("parameter_invalid_integer"),
            _ => ApiError::param(path, "Invalid string: a nested value was sent"),
        })
    }

    fn list(&self, schema: &Schema, node: Node, path: &str) -> Result<Value, ApiError> {
        let (Node::Branch(mut items), Some(item)) = (node, &schema.item) else {
            return Err(ApiError::param(path, "Invalid array"));
        };
        // `l[1]=..&l[0]=..` come in any order.
        items.sort_by_key(|(index, _)| index.parse::<usize>().unwrap_or(usize::MAX));
        let checked = items.into_iter().map(|(index, node)| {
            if !index.is_empty() && index.parse::<usize>().is_err() {
                return Err(ApiError::param(path, "Invalid array"));
            }
            self.value(item, node, &format!("{path}[{index}]"))
        });
        checked.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }
}

fn leaf(kind: &Kind, schema: &Schema, text: &str, path: &str) -> Result<Value, ApiError> {
    if text.is_empty() {
        return empty(kind, schema, path);
    }
    match kind {
        Kind::Int => text.parse::<i64>().map(Value::from).map_err(|_| {
            ApiError::param(path, format!("Invalid integer: {text}")).code("parameter_invalid_integer")
        }),
        Kind::Num => text
            .parse::<f64>()
            .map(Value::from)
            .map_err(|_| ApiError::param(path, format!("Invalid number: {text}"))),
        Kind::Bool => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(ApiError::param(path, format!("Invalid boolean: {text}"))),
        },
        Kind::Enum(values) if values.contains(&text) => Ok(text.into()),
        Kind::Enum(values) => Err(ApiError::param(path, not_among(path, values))),
        Kind::Str { length_max } if text.chars().count() > *length_max => {
            let start: String = text.chars().take(12).collect();
            let message = format!("Invalid string: {start}...; must be at most {length_max} characters");
            Err(ApiError::param(path, message))
        }
        Kind::Str { .. } => Ok(text.into()),
        Kind::Map | Kind::Object => Err(ApiError::param(path, "Invalid object")),
        Kind::List => Err(ApiError::param(path, "Invalid array")),
    }
}

fn empty(kind: &Kind, schema: &Schema, path: &str) -> Result<Value, ApiError> {
    let unsets = match kind {
        Kind::Str { .. } => !NEVER_EMPTY.contains(&path) && !schema.required,
        Kind::Map => true,
        _ => false,
    };
    if unsets || schema.may_be_empty {
        return Ok("".into());
    }
    let message = format!(
        "You passed an empty string for '{path}', which cannot be unset. Leave it out or give a value."
    );
    Err(ApiError::param(path, message).code("parameter_invalid_empty"))
}

fn not_among(path: &str, values: &[&str]) -> String {
    match values {
        [one] => format!("Invalid {path}: must be {one}"),
        _ => format!("Invalid {path}: must be one of {}", values.join(", ")),
    }
}

fn map(node: Node, path: &str) -> Result<Value, ApiError> {
    let Node::Branch(pairs) = node else { return Err(ApiError::param(path, "Invalid object")) };
    let mut object = Map::new();
    for (name, value) in pairs {
        let here = format!("{path}[{name}]");
        let Node::Text(text) = value else { return Err(ApiError::param(&here, "Invalid string")) };
        if name.chars().count() > METADATA_KEY_MAX {
            let message = format!("Metadata keys must be at most {METADATA_KEY_MAX} characters");
            return Err(ApiError::param(&here, message));
        }
        if text.chars().count() > METADATA_VALUE_MAX {
            let message = format!("Metadata values must be at most {METADATA_VALUE_MAX} characters");
            return Err(ApiError::param(&here, message));
        }
        object.insert(name, text.into());
    }
    Ok(Value::Object(object))
}

fn plain(node: Node) -> Value {
    match node {
        Node::Text(text) => text.into(),
        Node::Branch(children) => Value::Object(children.into_iter().map(|(k, v)| (k, plain(v))).collect()),
    }
}

/// Checked parameters. Paths are JSON pointers without the first slash: `payment_intent_data/metadata`.
#[derive(Debug, Default)]
pub(super) struct Params(pub(super) Value);

impl Params {
    /// The value, null if it was not sent.
    pub(super) fn get(&self, path: &str) -> &Value {
        path.split('/').fold(&self.0, |value, part| &value[part])
    }

    pub(super) fn has(&self, path: &str) -> bool {
        !self.get(path).is_null()
    }

    /// A text, absent when it was sent empty.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).as_str().filter(|text| !text.is_empty())
    }

    pub(super) fn owned(&self, path: &str) -> Option<String> {
        self.text(path).map(str::to_owned)
    }

    pub(super) fn int(&self, path: &str) -> Option<i64> {
        self.get(path).as_i64()
    }

    pub(super) fn is_true(&self, path: &str) -> bool {
        self.get(path).as_bool() == Some(true)
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        let items = self.get(path).as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn items(&self, path: &str) -> &[Value] {
        self.get(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Overwrites `field` if the parameter was sent; an empty text unsets it.
    pub(super) fn update(&self, path: &str, field: &mut Option<String>) {
        if self.has(path) {
            *field = self.owned(path);
        }
    }

    /// The parameter as a JSON value, or null when it was sent empty or not at all.
    pub(super) fn json(&self, path: &str) -> Value {
        match self.get(path) {
            Value::String(text) if text.is_empty() => Value::Null,
            value => value.clone(),
        }
    }

    /// Merges sent metadata into `metadata`: an empty value removes one pair, `metadata=` all.
    pub(super) fn merge_metadata(&self, path: &str, metadata: &mut Metadata) -> Result<(), ApiError> {
        match self.get(path) {
            Value::String(_) => metadata.clear(),
            Value::Object(pairs) => {
                for (name, value) in pairs {
                    match value.as_str().unwrap_or_default() {
                        "" => metadata.remove(name),
                        text => metadata.insert(name.clone(), text.to_owned()),
                    };
                }
            }
            _ => {}
        }
        if metadata.len() > METADATA_PAIRS_MAX {
            let message = format!("Metadata can have at most {METADATA_PAIRS_MAX} keys");
            return Err(ApiError::param("metadata", message));
        }
        Ok(())
    }

    /// Metadata of a new object.
    pub(super) fn metadata(&self, path: &str) -> Result<Metadata, ApiError> {
        let mut metadata = Metadata::new();
        self.merge_metadata(path, &mut metadata)?;
        Ok(metadata)
    }
}
