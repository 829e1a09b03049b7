//! Events: what happened at Stripe, as a webhook brings it or as the list keeps it for 30 days.
//! <https://docs.stripe.com/api/events>

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, Metadata};
use super::form::{Form, checked_id};
use super::pages::Pages;

const RETRIEVE: Endpoint = Endpoint("GET /v1/events/{id}");
const LIST: Endpoint = Endpoint("GET /v1/events");

/// Metadata keys of ours begin like this; no others are read from an event.
const OUR_KEYS: &str = "recurd_";

/// One event, without its object: the shape of that follows another API version, so the object is read afresh.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub struct Event {
    /// `evt_...`.
    pub id: String,
    /// What happened, such as `payment_intent.succeeded`.
    pub kind: String,
    /// The version its object is written in.
    pub api_version: Option<String>,
    /// When it happened; whole seconds, and no order.
    pub created: Timestamp,
    /// Live or test: must equal the client's.
    pub livemode: bool,
    /// The connected account it belongs to, if it is not our own.
    pub account: Option<String>,
    /// Id of the object it is about; some objects have none.
    pub object_id: Option<String>,
    /// Type of that object, such as `payment_intent`.
    pub object_type: Option<String>,
    /// The Stripe charge that the object names: of a refund, a dispute, a warning of one.
    pub charge: Option<String>,
    /// The object's `status`, such as a mandate's `inactive`.
    pub status: Option<String>,
    /// The object's `reason`, such as that of a review.
    pub reason: Option<String>,
    /// The payment method that the object names, such as a mandate's.
    pub payment_method: Option<String>,
    /// A customer's default payment method is not what it was.
    pub default_changed: bool,
    /// A customer's mail address is not what it was.
    pub email_changed: bool,
    /// Those of the object's metadata that are ours (`recurd_...`).
    pub metadata: Metadata,
    /// The key of the call that caused it, if an API call did.
    pub idempotency_key: Option<String>,
}

impl Identified for Event {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    api_version: Option<String>,
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    created: Timestamp,
    livemode: bool,
    account: Option<String>,
    data: WireData,
    request: Option<WireRequest>,
}

#[derive(Deserialize)]
struct WireData {
    object: WireObject,
    previous_attributes: Option<Box<RawValue>>,
}

/// Of what was before, the part that is looked at.
#[derive(Deserialize)]
struct WirePrevious {
    invoice_settings: Option<WireSettings>,
    /// `Some`: it was named, though it may have been null.
    #[serde(default, deserialize_with = "was_named")]
    email: Option<()>,
}

#[derive(Deserialize)]
struct WireSettings {
    /// `Some`: it was named, though it may have been null.
    #[serde(default, deserialize_with = "was_named")]
    default_payment_method: Option<()>,
}

fn was_named<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<()>, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| Some(()))
}

/// Any object of any version: nothing in it may stop an event from being read.
#[derive(Deserialize)]
struct WireObject {
    id: Option<Box<RawValue>>,
    object: Option<Box<RawValue>>,
    charge: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    reason: Option<Box<RawValue>>,
    payment_method: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireRequest {
    idempotency_key: Option<String>,
}

impl From<Wire> for Event {
    fn from(wire: Wire) -> Self {
        let object = wire.data.object;
        let previous = read::<WirePrevious>(wire.data.previous_attributes.as_deref());
        let email_changed = previous.as_ref().is_some_and(|previous| previous.email.is_some());
        let settings = previous.and_then(|previous| previous.invoice_settings);
        let mut metadata = read::<Metadata>(object.metadata.as_deref()).unwrap_or_default();
        metadata.retain(|key, _| key.starts_with(OUR_KEYS));
        Self {
            id: wire.id,
            kind: wire.kind,
            api_version: wire.api_version,
            created: wire.created,
            livemode: wire.livemode,
            account: wire.account,
            object_id: read(object.id.as_deref()),
            object_type: read(object.object.as_deref()),
            charge: read(object.charge.as_deref()),
            status: read(object.status.as_deref()),
            reason: read(object.reason.as_deref()),
            payment_method: read(object.payment_method.as_deref()),
            default_changed: settings.is_some_and(|settings| settings.default_payment_method.is_some()),
            email_changed,
            metadata,
            idempotency_key: wire.request.and_then(|request| request.idempotency_key),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Which events to list.
#[derive(Debug, Clone, Copy)]
pub struct EventFilter<'a> {
    /// Only events from this instant on; Stripe keeps 30 days.
    pub created_from: Timestamp,
    /// Only these types, at most 20; all if empty.
    pub types: &'a [&'a str],
    /// `Some(false)`: only those that some webhook endpoint did not take.
    pub delivery_success: Option<bool>,
}

impl Client {
    /// The events that pass the filter, newest first, page by page.
    #[must_use]
    pub fn events(&self, filter: &EventFilter<'_>) -> Pages<Event> {
        let mut form = Form::new().instant("created[gte]", Some(filter.created_from));
        for kind in filter.types {
            form = form.text("types[]", kind);
        }
        let delivered = filter.delivery_success.map(|delivered| if delivered { "true" } else { "false" });
        Pages::new(self, LIST, "/v1/events", form.maybe("delivery_success", delivered))
    }

    /// Reads one event again.
    ///
    /// # Errors
    /// Those of a GET; events older than 30 days are gone.
    pub async fn retrieve_event(&self, id: &str) -> Result<Answer<Event>, Error> {
        self.get(RETRIEVE, format!("/v1/events/{}", checked_id(id)?)).await
    }
}
