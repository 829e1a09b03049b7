//! Runs the simulator over many seeds: `simulate --seeds 1000`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use recurd::simulation::bugs::Bug;
use recurd::simulation::faults::Kind;
use recurd::simulation::{Options, Outcome, crowd, run, shrink};

/// Runs seeds, and stops at the first that breaks a promise.
#[derive(Parser)]
#[command(name = "simulate")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Days of trouble per seed.
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Kinds of faults that do not strike, with commas between.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Strikes that do not happen: 3-17,20-20.
    #[arg(long, value_delimiter = ',')]
    suppress: Vec<String>,
    /// A deliberate mistake by name.
    #[arg(long)]
    bug: Option<String>,
    /// Every deliberate mistake in turn.
    #[arg(long)]
    bugs: bool,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a failure, and do not search for a shorter one.
    #[arg(long)]
    all: bool,
    /// Print the sums as JSON.
    #[arg(long)]
    json: bool,
    /// Threads; as many as there are cores if not said otherwise.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let template = match template(&args) {
        Ok(template) => template,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    if args.bugs {
        return catalogue(&args, &template);
    }
    if let Some(seed) = args.seed.filter(|_| args.trace) {
        let outcome = run(&Options { seed, ..template });
        outcome.trace.iter().for_each(|line| println!("{line}"));
        println!("{:?} after {} steps, digest {:016x}", outcome.violation, outcome.steps, outcome.digest);
        return if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let sums = many(&template, from, count, args.threads, args.all, false);
    sums.print(args.json);
    for failed in sums.failed.iter().filter(|_| !args.all) {
        let options = Options { seed: failed.seed, ..template.clone() };
        explain(&options, failed);
    }
    if sums.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn template(args: &Args) -> Result<Options, String> {
    let mut options = Options { days: args.days, traces: args.trace, ..Options::new(0) };
    let kind =
        |name: &String| Kind::parse(name).ok_or_else(|| format!("no kind of fault is called {name:?}"));
    for name in &args.without {
        options.disabled.insert(kind(name)?);
    }
    for range in &args.suppress {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{range:?} is not a range"));
        options.suppressed.extend(number(from)?..=number(to)?);
    }
    if let Some(name) = &args.bug {
        options.bug = Some(Bug::parse(name).ok_or_else(|| format!("no mistake is called {name:?}"))?);
    }
    Ok(options)
}

fn explain(options: &Options, failed: &Outcome) {
    eprintln!("seed {}: {:?}; searching for the shortest way there", failed.seed, failed.violation);
    let (options, outcome) = shrink::shrink(options, failed);
    outcome.trace.iter().rev().take(150).rev().for_each(|line| eprintln!("{line}"));
    eprintln!("seed {}: {:?}", options.seed, outcome.violation);
    eprintln!("{}", shrink::command(&options));
}

/// What came of many runs.
#[derive(Default)]
struct Sums {
    seeds: u64,
    steps: u64,
    secs: f64,
    faults: BTreeMap<&'static str, u64>,
    places: BTreeMap<&'static str, (u64, u64)>,
    states: BTreeMap<String, u64>,
    failed: Vec<Outcome>,
}

impl Sums {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (place, (stops, deaths)) in &outcome.places {
            let sum = self.places.entry(place).or_default();
            *sum = (sum.0 + stops, sum.1 + deaths);
        }
        for (state, count) in &outcome.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        if outcome.violation.is_some() {
            self.failed.push(outcome);
        }
    }

    fn print(&self, json: bool) {
        if json {
            let sums = serde_json::json!({
                "seeds": self.seeds, "steps": self.steps, "secs": self.secs, "faults": self.faults,
                "places": self.places, "states": self.states, "failed": self.failed,
            });
            println!("{sums}");
            return;
        }
        let rate = self.seeds as f64 / self.secs.max(0.001);
        println!("{} seeds, {} steps, {:.1} s, {rate:.2} seeds a second", self.seeds, self.steps, self.secs);
        println!("faults: {:?}", self.faults);
        println!("failpoints (stops, deaths): {:?}", self.places);
        println!("charges: {:?}", self.states);
        for failed in &self.failed {
            println!("seed {}: {:?}", failed.seed, failed.violation);
        }
    }
}

fn many(template: &Options, from: u64, count: u64, threads: Option<usize>, all: bool, hidden: bool) -> Sums {
    let mut sums = Sums::default();
    let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(count) };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}")
    {
        bar.set_style(style);
    }
    let begun = Instant::now();
    let options = |seed| Options { seed, ..template.clone() };
    crowd::over_seeds((from, count), threads, options, |outcome| {
        let goes_on = all || outcome.violation.is_none();
        sums.add(outcome);
        bar.inc(1);
        goes_on
    });
    bar.finish_and_clear();
    sums.secs = begun.elapsed().as_secs_f64();
    sums.failed.sort_by_key(|one| one.seed);
    sums
}

/// Runs every deliberate mistake: until a seed finds it, or with `--all` over all seeds.
fn catalogue(args: &Args, template: &Options) -> ExitCode {
    let mut missed = 0;
    println!("{:24} {:>6} {:>9} {:10} what", "mistake", "first", "found in", "invariants");
    for &bug in Bug::ALL {
        let options = Options { bug: Some(bug), ..template.clone() };
        let sums = many(&options, args.from, args.seeds, args.threads, args.all, true);
        let seed = sums.failed.first().map_or("-".to_owned(), |one| one.seed.to_string());
        let broken: BTreeSet<&str> =
            sums.failed.iter().filter_map(|one| one.violation.as_ref()).map(|one| one.invariant).collect();
        let broken = broken.into_iter().collect::<Vec<_>>().join(" ");
        let found = format!("{}/{}", sums.failed.len(), sums.seeds);
        println!("{:24} {seed:>6} {found:>9} {broken:10} {}", bug.as_str(), bug.story());
        missed += u32::from(sums.failed.is_empty());
    }
    println!("{missed} of {} were not found", Bug::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
