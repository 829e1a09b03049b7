//! `make bench`: what collecting costs. Prints the tables of `docs/performance.md`.
//!
//! The measured thing is the `recurd` binary, collecting from a database on disk with durable commits, against the
//! responder in `responder.rs`, which runs as a process of its own.

mod books;
mod responder;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use books::{Books, Size};
use recurd::billing::charge::Work;
use recurd::clock::Clock;
use recurd::config::Config;
use recurd::store::Store;
use responder::Manner;

const RECURD: &str = env!("CARGO_BIN_EXE_recurd");
const POSTGRES_URL: &str = "RECURD_TEST_POSTGRES_URL";
/// Clock ticks a second in /proc; the same on every Linux that Rust supports.
const TICKS_PER_SEC: f64 = 100.0;
/// Charges of one claim in the claim measurement, and how often it is repeated.
const CLAIM: usize = 500;
const CLAIMS: usize = 60;

const HELP: &str = "\
cargo bench --bench collect -- [PART]... [--charges N] [--rows N,N,...] [--repeat N]

PART         throughput, claim, pace (default: all)
--charges N  due charges of a throughput run (default 20000)
--rows LIST  table sizes of the claim measurement (default 10000,1000000,10000000)
--repeat N   runs of each throughput line; the median is shown (default 3)
PostgreSQL is measured when RECURD_TEST_POSTGRES_URL names a cluster whose commits are durable.
Databases lie below $TMPDIR: for honest figures that must be a disk.";

struct Options {
    parts: Vec<String>,
    charges: u64,
    rows: Vec<u64>,
    repeat: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some("responder") = args.first().map(String::as_str) {
        let latency = Duration::from_millis(args[1].parse()?);
        let per_sec = args[2].parse().ok().filter(|rate| *rate > 0);
        return Ok(responder::run(Manner { latency, per_sec })?);
    }
    let Some(options) = options(&args)? else {
        println!("{HELP}");
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    for part in &options.parts {
        match part.as_str() {
            "throughput" => runtime.block_on(throughput(&options))?,
            "claim" => runtime.block_on(claim(&options))?,
            _ => runtime.block_on(pace())?,
        }
    }
    Ok(())
}

fn options(args: &[String]) -> Result<Option<Options>> {
    let mut options =
        Options { parts: Vec::new(), charges: 20_000, rows: vec![10_000, 1_000_000, 10_000_000], repeat: 3 };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--charges" => options.charges = value()?.parse()?,
            "--repeat" => options.repeat = value()?.parse()?,
            "--rows" => {
                options.rows = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "throughput" | "claim" | "pace" => options.parts.push(arg.clone()),
            "--help" | "-h" => return Ok(None),
            other => bail!("{other}: unknown\n{HELP}"),
        }
    }
    if options.parts.is_empty() {
        options.parts = ["claim", "throughput", "pace"].map(str::to_owned).to_vec();
    }
    Ok(Some(options))
}

/// Database URLs of one measurement: a file, and a new database on the cluster if there is one.
fn databases(scene: &Path) -> Vec<(&'static str, String)> {
    let mut urls = vec![("SQLite", format!("sqlite://{}", scene.join("recurd.db").display()))];
    match std::env::var(POSTGRES_URL) {
        Ok(url) => urls.push(("PostgreSQL", url)),
        Err(_) => eprintln!("NOT MEASURED: PostgreSQL, since {POSTGRES_URL} is not set"),
    }
    urls
}

/// A directory with a configuration that goes away again, and on PostgreSQL a database that does too.
struct Scene {
    dir: PathBuf,
    url: String,
    cluster: Option<(String, String)>,
}

impl Scene {
    async fn new(kind: &str, preflight: &str, per_sec: u32) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("recurd-bench-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&dir)?;
        let mut scene =
            Self { url: format!("sqlite://{}", dir.join("recurd.db").display()), dir, cluster: None };
        if kind == "PostgreSQL" {
            let cluster = std::env::var(POSTGRES_URL)?;
            let name = format!("bench_{}", uuid::Uuid::new_v4().simple());
            admin(&cluster, &format!("CREATE DATABASE {name}")).await?;
            let (base, _) = cluster.rsplit_once('/').context("the URL names no database")?;
            scene.url = format!("{base}/{name}");
            scene.cluster = Some((cluster, name));
        }
        let rate = if per_sec == 0 { "1000000".to_owned() } else { per_sec.to_string() };
        let config = format!(
            "[database]\nurl = \"{}\"\n[stripe]\nmode = \"test\"\npreflight = \"{preflight}\"\nendpoint_per_sec = {rate}\n\
             account_per_sec = 1000000\n[plans.pro]\nname = \"Pro\"\nprice = \"29.00 USD\"\nevery = \"1 month\"\n\
             [mail]\nurl = \"file:mail\"\nfrom = \"Billing <billing@example.com>\"\n",
            scene.url
        );
        std::fs::write(scene.dir.join("schedules.toml"), config)?;
        Ok(scene)
    }

    fn recurd(&self, port: u16) -> Command {
        let mut command = Command::new(RECURD);
        command
            .current_dir(&self.dir)
            .env("RECURD__STRIPE__SECRET_KEY", "sk_test_bench")
            .env("RECURD__STRIPE__API_BASE", format!("http://127.0.0.1:{port}"))
            .env("RUST_LOG", "error");
        command
    }

    async fn prepare(&self, responder: &Responder, size: Size) -> Result<()> {
        // The first run makes the schema and binds the database.
        let made = self.recurd(responder.port).args(["run", "--json"]).output()?;
        ensure!(made.status.success(), "recurd run: {}", String::from_utf8_lossy(&made.stderr));
        let config = Config::load_with(Some(&self.dir.join("schedules.toml")), &BTreeMap::new())?;
        let store = Store::open(&self.url).await?;
        store.ensure_plan("pro", &config.plans["pro"], Clock::system().now()).await?;
        store.close().await;
        let books = Books::open(&self.url).await?;
        books.fill(size, Clock::system().now().as_second()).await?;
        books.close().await;
        Ok(())
    }

    async fn clear(self) -> Result<()> {
        std::fs::remove_dir_all(&self.dir)?;
        match &self.cluster {
            Some((cluster, name)) => admin(cluster, &format!("DROP DATABASE {name}")).await,
            None => Ok(()),
        }
    }
}

async fn admin(cluster: &str, sql: &str) -> Result<()> {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(cluster).await?;
    sqlx::Executor::execute(&pool, sqlx::AssertSqlSafe(sql.to_owned())).await?;
    pool.close().await;
    Ok(())
}

struct Responder {
    child: Child,
    port: u16,
}

impl Responder {
    fn start(latency_ms: u64, per_sec: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["responder", &latency_ms.to_string(), &per_sec.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        Ok(Self { port: line.trim().parse()?, child })
    }

    fn stats(&self) -> Result<serde_json::Value> {
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        connection.write_all(b"GET /stats HTTP/1.1\r\n\r\n")?;
        connection.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        Ok(serde_json::from_str(text.split("\r\n\r\n").nth(1).context("no body")?)?)
    }

    fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// What one run of the binary took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall_secs: f64,
    cpu_secs: f64,
    peak_mib: f64,
}

fn measure(mut command: Command) -> Result<Cost> {
    let before = children_cpu_secs()?;
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0.0_f64;
    let code = loop {
        // The high-water mark is gone with the process, so it is read while it lives.
        let high = std::fs::read_to_string(&status).ok().and_then(|text| high_water_kib(&text));
        peak_kib = peak_kib.max(high.unwrap_or(0.0));
        if let Some(code) = child.try_wait()? {
            break code;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall_secs = started.elapsed().as_secs_f64();
    ensure!(code.success(), "recurd ended with {code}");
    Ok(Cost { wall_secs, cpu_secs: children_cpu_secs()? - before, peak_mib: peak_kib / 1024.0 })
}

fn high_water_kib(status: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

/// CPU seconds of all children that have been waited for.
fn children_cpu_secs() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // After the name, field 1 is the state (3 in proc(5)); cutime and cstime are 16 and 17 there.
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(13) + ticks(14)) / TICKS_PER_SEC)
}

/// Charges a second, CPU and memory of `recurd run` with everything due.
async fn throughput(options: &Options) -> Result<()> {
    println!("\n{} due charges, 5 % declined, durable commits, no latency\n", options.charges);
    println!("| database | preflight | charges/s | CPU s per 1,000 | peak MiB |");
    println!("|---|---|---:|---:|---:|");
    for kind in databases(Path::new("")).iter().map(|(kind, _)| *kind) {
        for preflight in ["stale", "always"] {
            let mut costs = Vec::new();
            for _ in 0..options.repeat {
                costs.push(collect_all(kind, preflight, options.charges).await?);
            }
            costs.sort_by(|a, b| a.wall_secs.total_cmp(&b.wall_secs));
            let middle = costs[costs.len() / 2];
            let thousands = options.charges as f64 / 1000.0;
            println!(
                "| {kind} | {preflight} | {:.0} | {:.3} | {:.0} |",
                thousands * 1000.0 / middle.wall_secs,
                middle.cpu_secs / thousands,
                costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max)
            );
        }
    }
    Ok(())
}

async fn collect_all(kind: &str, preflight: &str, charges: u64) -> Result<Cost> {
    let responder = Responder::start(0, 0)?;
    let scene = Scene::new(kind, preflight, 0).await?;
    scene.prepare(&responder, Size { charges, due: charges, subscriptions: true }).await?;
    let mut command = scene.recurd(responder.port);
    command.args(["run", "--job", "collect", "--json"]);
    let cost = measure(command)?;
    let books = Books::open(&scene.url).await?;
    let states = books.states().await?;
    books.close().await;
    let expected = [format!("paid {}", charges - charges / 20), format!("past_due {}", charges / 20)];
    ensure!(
        states.iter().all(|state| expected.contains(state)),
        "after the run: {states:?}, not {expected:?}"
    );
    let stats = responder.stats()?;
    ensure!(stats["created"] == charges, "the responder saw {stats}");
    responder.stop()?;
    scene.clear().await?;
    Ok(cost)
}

/// How long a claim takes, by the size of the table.
async fn claim(options: &Options) -> Result<()> {
    println!("\nClaiming {CLAIM} due charges with their customers, median of {CLAIMS}\n");
    println!("| database | charges in the table | ms per claim | against the smallest |");
    println!("|---|---:|---:|---:|");
    for kind in databases(Path::new("")).iter().map(|(kind, _)| *kind) {
        let mut smallest = None;
        for rows in &options.rows {
            let ms = claim_time(kind, *rows).await?;
            let first = *smallest.get_or_insert(ms);
            println!("| {kind} | {rows} | {ms:.2} | {:.2} |", ms / first);
        }
    }
    Ok(())
}

async fn claim_time(kind: &str, rows: u64) -> Result<f64> {
    let responder = Responder::start(0, 0)?;
    let scene = Scene::new(kind, "stale", 0).await?;
    // One due charge of each customer, and twice as many as one claim takes.
    let due = 2 * CLAIM as u64;
    scene.prepare(&responder, Size { charges: rows, due, subscriptions: false }).await?;
    let (store, books) = (Store::open(&scene.url).await?, Books::open(&scene.url).await?);
    let mut times = Vec::new();
    for _ in 0..CLAIMS {
        let now = Clock::system().now();
        let lease = now + jiff::SignedDuration::from_mins(30);
        let started = Instant::now();
        let claimed = store.claim_charges(Work::Collect, "bench", now, lease, CLAIM).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(claimed.len() == CLAIM, "claimed {} of {CLAIM}", claimed.len());
        books.give_back().await?;
    }
    store.close().await;
    books.close().await;
    responder.stop()?;
    scene.clear().await?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Held to Stripe's limit: how much of it is used, and what the waiting costs.
async fn pace() -> Result<()> {
    const PER_SEC: u32 = 25;
    const CHARGES: u64 = 1_000;
    let responder = Responder::start(250, PER_SEC)?;
    let scene = Scene::new("SQLite", "stale", PER_SEC).await?;
    scene.prepare(&responder, Size { charges: CHARGES, due: CHARGES, subscriptions: true }).await?;
    let mut command = scene.recurd(responder.port);
    command.args(["run", "--job", "collect", "--json"]);
    let cost = measure(command)?;
    let stats = responder.stats()?;
    let secs = stats["micros"].as_f64().unwrap_or(f64::NAN) / 1e6;
    let rate = (CHARGES - 1) as f64 / secs;
    println!("\nHeld to {PER_SEC} requests a second, 250 ms latency, {CHARGES} charges\n");
    println!("| rate | of the permitted | 429 | CPU of one core |");
    println!("|---:|---:|---:|---:|");
    println!(
        "| {rate:.2}/s | {:.1} % | {} | {:.2} % |",
        100.0 * rate / f64::from(PER_SEC),
        stats["limited"],
        100.0 * cost.cpu_secs / cost.wall_secs
    );
    responder.stop()?;
    scene.clear().await
}
