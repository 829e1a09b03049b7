//! The least that can answer recurd like Stripe: keep-alive HTTP/1.1 in a process of its own, a thread per
//! connection, canned PaymentIntents. It keeps no state but its counters, so the time it takes is its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What it does beside answering.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Waits this long before each answer to a POST.
    pub latency: Duration,
    /// Answers 429 to more requests a second than this (a bucket that holds one second's worth).
    pub per_sec: Option<u32>,
}

#[derive(Default)]
struct Counters {
    created: AtomicU64,
    declined: AtomicU64,
    listed: AtomicU64,
    limited: AtomicU64,
    /// First and last creation, in microseconds since the start.
    first: AtomicU64,
    last: AtomicU64,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Shared {
    manner: Manner,
    counters: Counters,
    bucket: Mutex<Bucket>,
    start: Instant,
}

/// Prints its port, then answers until its standard input closes.
pub fn run(manner: Manner) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let start = Instant::now();
    let tokens = f64::from(manner.per_sec.unwrap_or(0));
    let bucket = Mutex::new(Bucket { tokens, at: start });
    let shared = Arc::new(Shared { manner, counters: Counters::default(), bucket, start });
    for connection in listener.incoming() {
        let (connection, shared) = (connection?, shared.clone());
        std::thread::spawn(move || serve(&connection, &shared));
    }
    Ok(())
}

fn serve(connection: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(16 * 1024, connection);
    let mut writer = connection;
    let (mut line, mut body, mut answer) = (String::new(), Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let posts = line.starts_with("POST");
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        answer.clear();
        reply(shared, posts, &path, &body, &mut answer);
        writer.write_all(&answer)?;
    }
}

fn reply(shared: &Shared, posts: bool, path: &str, body: &[u8], out: &mut Vec<u8>) {
    let counters = &shared.counters;
    if posts && path == "/v1/payment_intents" {
        if !permitted(shared) {
            counters.limited.fetch_add(1, Ordering::Relaxed);
            let error = r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many requests"}}"#;
            return write(out, "429 Too Many Requests", error);
        }
        std::thread::sleep(shared.manner.latency);
        let number = counters.created.fetch_add(1, Ordering::Relaxed) + 1;
        let at = u64::try_from(shared.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let _ = counters.first.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        counters.last.fetch_max(at, Ordering::Relaxed);
        let fields: HashMap<_, _> = form_urlencoded::parse(body).collect();
        // 5 % declines.
        return if number.is_multiple_of(20) {
            counters.declined.fetch_add(1, Ordering::Relaxed);
            write(out, "402 Payment Required", &declined(number, &fields))
        } else {
            write(out, "200 OK", &intent(number, &fields, "succeeded", "null"))
        };
    }
    if path.starts_with("/v1/account") {
        return write(out, "200 OK", r#"{"id":"acct_bench","object":"account","livemode":false}"#);
    }
    if path.starts_with("/v1/customers") {
        // Shows no nonce: as before the first one.
        return write(
            out,
            "200 OK",
            r#"{"id":"cus_witness","object":"customer","livemode":false,"metadata":{}}"#,
        );
    }
    if path.starts_with("/stats") {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = format!(
            r#"{{"created":{},"declined":{},"listed":{},"limited":{},"micros":{}}}"#,
            get(&counters.created),
            get(&counters.declined),
            get(&counters.listed),
            get(&counters.limited),
            get(&counters.last) - get(&counters.first)
        );
        return write(out, "200 OK", &stats);
    }
    counters.listed.fetch_add(1, Ordering::Relaxed);
    write(out, "200 OK", r#"{"object":"list","data":[],"has_more":false,"url":"/v1"}"#);
}

fn permitted(shared: &Shared) -> bool {
    let Some(rate) = shared.manner.per_sec.map(f64::from) else { return true };
    let mut bucket = shared.bucket.lock().expect("nobody panics while holding the bucket");
    let now = Instant::now();
    bucket.tokens = (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * rate).min(rate);
    bucket.at = now;
    let permitted = bucket.tokens >= 1.0;
    if permitted {
        bucket.tokens -= 1.0;
    }
    permitted
}

type Fields<'a> = HashMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>>;

/// A PaymentIntent as long as Stripe's, with what the request said in it.
fn intent(number: u64, fields: &Fields<'_>, status: &str, error: &str) -> String {
    let field = |name: &str| fields.get(name).map_or("", |value| value.as_ref());
    let metadata: Vec<String> = fields
        .iter()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some(format!(r#""{name}":"{value}""#))
        })
        .collect();
    let (amount, received) = (field("amount"), if status == "succeeded" { field("amount") } else { "0" });
    let (currency, customer, method) = (field("currency"), field("customer"), field("payment_method"));
    format!(
        r#"{{"id":"pi_bench{number}","object":"payment_intent","amount":{amount},"amount_capturable":0,
"amount_details":{{"tip":{{}}}},"amount_received":{received},"application":null,"application_fee_amount":null,
"automatic_payment_methods":null,"canceled_at":null,"cancellation_reason":null,"capture_method":"automatic_async",
"client_secret":"pi_bench{number}_secret_x","confirmation_method":"automatic","created":1790000000,"currency":"{currency}",
"customer":"{customer}","description":null,"last_payment_error":{error},"latest_charge":{{"id":"ch_bench{number}",
"object":"charge","amount":{amount},"captured":true,"created":1790000000,"currency":"{currency}","paid":true,
"refunded":false,"disputed":false,"amount_refunded":0,"livemode":false,"status":"succeeded","metadata":{{}},
"payment_method_details":{{"card":{{"brand":"visa","country":"US","exp_month":12,"exp_year":2030,"fingerprint":"fp{customer}",
"funding":"credit","last4":"4242","network":"visa"}},"type":"card"}}}},"livemode":false,"metadata":{{{}}},
"next_action":null,"on_behalf_of":null,"payment_method":"{method}","payment_method_options":{{"card":{{"installments":null,
"mandate_options":null,"network":null,"request_three_d_secure":"automatic"}}}},"payment_method_types":["card"],
"processing":null,"receipt_email":null,"review":null,"setup_future_usage":null,"shipping":null,"source":null,
"statement_descriptor":null,"statement_descriptor_suffix":null,"status":"{status}","transfer_data":null,"transfer_group":null}}"#,
        metadata.join(",")
    )
}

fn declined(number: u64, fields: &Fields<'_>) -> String {
    let error = format!(
        r#""charge":"ch_bench{number}","code":"card_declined","decline_code":"insufficient_funds","message":"Your card has insufficient funds.","type":"card_error""#
    );
    let intent = intent(number, fields, "requires_payment_method", &format!("{{{error}}}"));
    format!(r#"{{"error":{{{error},"payment_intent":{intent}}}}}"#)
}

fn write(out: &mut Vec<u8>, status: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nRequest-Id: req_bench\r\nContent-Length: {length}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}
