//! What the sandbox answers fits Stripe's OpenAPI document, and the table of parameters comes from it.
//!
//! The document is not part of this repository. `RECURD_SHARED` names a folder that holds `stripe/openapi.json`;
//! without it these tests say loudly that they were skipped.

use std::path::PathBuf;
use std::process::Command;

use recurd::sandbox::Sandbox;
use serde_json::Value;

use crate::{CHARGE, charge, get, post, send, with_card};

fn spec_path() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folders = [std::env::var_os("RECURD_SHARED").map(PathBuf::from), Some(root.join("../shared"))];
    let found = folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join("stripe/openapi.json"))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no stripe/openapi.json; set RECURD_SHARED to the folder that has it");
    }
    found
}

/// Checks values against schemas of the document, and collects what does not fit.
struct Checker {
    schemas: Value,
    problems: Vec<String>,
}

impl Checker {
    fn new(path: PathBuf) -> Self {
        let spec: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        Self { schemas: spec["components"]["schemas"].clone(), problems: Vec::new() }
    }

    fn object(&mut self, value: &Value) {
        let name = match (value["object"].as_str().unwrap(), &value["deleted"]) {
            (name, Value::Bool(true)) => format!("deleted_{name}"),
            (name, _) => name.to_owned(),
        };
        let schema = self.schemas[&name].clone();
        self.check(&schema, value, &name);
    }

    fn fits(&mut self, schema: &Value, value: &Value, at: &str) -> bool {
        let before = self.problems.len();
        self.check(schema, value, at);
        let fits = self.problems.len() == before;
        self.problems.truncate(before);
        fits
    }

    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let target = self.schemas[name.rsplit('/').next().unwrap()].clone();
            // Schemas that the document leaves out say nothing.
            if !target.is_null() {
                self.check(&target, value, at);
            }
            return;
        }
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(options) = schema["anyOf"].as_array() {
            if !options.iter().any(|option| self.fits(option, value, at)) {
                match options.iter().find(|option| option["$ref"].is_string() && value.is_object()) {
                    Some(option) => self.check(option, value, at),
                    None => self.problems.push(format!("{at}: {value} is none of the choices")),
                }
            }
            return;
        }
        let right = match schema["type"].as_str() {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => true,
        };
        if !right {
            return self.problems.push(format!("{at}: {value} is no {}", schema["type"]));
        }
        if schema["enum"].as_array().is_some_and(|values| value.is_string() && !values.contains(value)) {
            self.problems.push(format!("{at}: {value} is not in the list"));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}[{index}]"));
        }
        self.fields(schema, value, at);
    }

    fn fields(&mut self, schema: &Value, value: &Value, at: &str) {
        let (Some(object), Some(fields)) = (value.as_object(), schema["properties"].as_object()) else {
            return;
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                self.problems.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in object {
            match fields.get(name) {
                Some(schema) => self.check(schema, field, &format!("{at}.{name}")),
                None => self.problems.push(format!("{at}.{name}: not in the schema")),
            }
        }
    }
}

/// Every kind of object, in several states.
fn play(sandbox: &Sandbox) -> Vec<Value> {
    let (_, declined) = send(sandbox, &charge());
    let mut seen = vec![declined["error"]["payment_intent"].clone()];
    let paid = post(sandbox, "/v1/payment_intents", &CHARGE);
    seen.push(post(
        sandbox,
        "/v1/refunds",
        &[("payment_intent", paid["id"].as_str().unwrap()), ("amount", "50")],
    ));
    sandbox.dispute(paid["latest_charge"].as_str().unwrap());
    let base =
        [("customer", "cus_1"), ("success_url", "http://m.example/"), ("cancel_url", "http://m.example/no")];
    for (mode, more) in [("setup", &[("currency", "usd")][..]), ("payment", &ITEM[..])] {
        let fields: Vec<_> = [("mode", mode)].into_iter().chain(base).chain(more.iter().copied()).collect();
        let opened = post(sandbox, "/v1/checkout/sessions", &fields);
        sandbox.complete_session(opened["id"].as_str().unwrap(), "pm_card_authenticationRequired").unwrap();
        seen.push(opened);
    }
    let methods = ["card", "sepa_debit", "ideal"].map(|method| ("payment_method_types[]", method));
    let fields: Vec<_> = methods.into_iter().chain([("mode", "payment")]).chain(base).chain(ITEM).collect();
    for account in ["pm_sandbox_sepaPaid", "pm_sandbox_sepaFailed", "pm_sandbox_ideal"] {
        let opened = post(sandbox, "/v1/checkout/sessions", &fields);
        sandbox.complete_session(opened["id"].as_str().unwrap(), account).unwrap();
        let path = format!(
            "checkout/sessions/{}?expand[]=payment_intent.payment_method",
            opened["id"].as_str().unwrap()
        );
        seen.push(get(sandbox, &format!("/v1/{path}")));
    }
    let hook = [("url", "http://127.0.0.1:1/"), ("enabled_events[]", "*")];
    seen.push(post(sandbox, "/v1/webhook_endpoints", &hook));
    seen.push(post(
        sandbox,
        "/v1/setup_intents",
        &[("customer", "cus_1"), ("payment_method", "pm_1"), ("confirm", "true")],
    ));
    sandbox.update_card("pm_1");
    sandbox.advance(10);
    seen
}

const ITEM: [(&str, &str); 5] = [
    ("line_items[0][quantity]", "1"),
    ("line_items[0][price_data][currency]", "eur"),
    ("line_items[0][price_data][unit_amount]", "2900"),
    ("line_items[0][price_data][product_data][name]", "Plan"),
    ("saved_payment_method_options[payment_method_save]", "enabled"),
];

#[test]
fn answers_fit_the_document() {
    let Some(path) = spec_path() else { return };
    let mut checker = Checker::new(path);
    let sandbox = with_card("pm_card_sandbox_fundsOnceThenGood");
    let mut objects = play(&sandbox);
    let lists = [
        "charges?expand[]=data.refunds&expand[]=data.balance_transaction",
        "checkout/sessions?expand[]=data.line_items",
        "customers",
        "disputes",
        "events?limit=100",
        "payment_intents?expand[]=data.latest_charge&expand[]=data.payment_method",
        "payment_methods?customer=cus_1",
        "refunds",
        "setup_intents?expand[]=data.latest_attempt",
        "webhook_endpoints",
    ];
    for list in lists {
        objects.extend(get(&sandbox, &format!("/v1/{list}"))["data"].as_array().unwrap().iter().cloned());
    }
    objects.extend(["account", "balance"].map(|name| get(&sandbox, &format!("/v1/{name}"))));
    for event in objects.iter().filter(|object| object["object"] == "event").cloned().collect::<Vec<_>>() {
        objects.push(event["data"]["object"].clone());
    }
    assert!(objects.len() > 60);
    objects.iter().for_each(|object| checker.object(object));
    checker.problems.sort();
    checker.problems.dedup();
    assert!(checker.problems.is_empty(), "{}", checker.problems.join("\n"));
}

#[test]
fn errors_fit_the_document() {
    let Some(path) = spec_path() else { return };
    let mut checker = Checker::new(path);
    for token in ["pm_card_chargeCustomerFail", "pm_card_authenticationRequired", "pm_card_radarBlock"] {
        let (_, value) = send(&with_card(token), &charge());
        let schema = checker.schemas["api_errors"].clone();
        checker.check(&schema, &value["error"], token);
    }
    assert!(checker.problems.is_empty(), "{}", checker.problems.join("\n"));
}

#[test]
fn the_table_of_parameters_is_the_documents() {
    let Some(path) = spec_path() else { return };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("python3").arg(root.join("scripts/stripe_parameters.py")).arg(path).output();
    let Ok(made) = made else { return eprintln!("SKIPPED: no python3 to make the table again") };
    let kept = std::fs::read_to_string(root.join("data/stripe_parameters.tsv")).unwrap();
    assert!(String::from_utf8(made.stdout).unwrap() == kept, "run scripts/stripe_parameters.py again");
}
