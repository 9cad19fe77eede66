//! `backup advise`: proposes a strategy, and writes it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backup_core::advice::{Answers, Bearable, Criticality, Prices, advise};
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::runbook::{markdown, runbook};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::advising::answers::{self, Destination, LOSS, OUTAGE, Said};
use crate::advising::configuration::{self, Plan};
use crate::advising::found::{Found, settled};
use crate::advising::notified::Notified;
use crate::advising::output::{self, Output, Present};
use crate::advising::questions::Questions;
use crate::advising::scripts::{Names, scripts};
use crate::advising::{folders, machine, prices, told};
use crate::commands::alerts;
use crate::config::{self, Config};
use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::runbooks;
use crate::session::{Session, identity};
use crate::units::{self, Program};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --source it looks at this machine: which databases listen, by what the kernel lists, and which \
    SQLite files, uploads, bare Git repositories and .env files lie in usual folders. No server is spoken to and no password \
    is tried. On a terminal it asks what no option says; Enter takes what is proposed. Without --output the configuration \
    goes to standard output, and what is to say of it to standard error."
)]
pub(crate) struct Args {
    /// What is to be backed up: a path, or a database's URL without a password; may be given several times
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// Look at this machine as well, although sources are given
    #[arg(long)]
    discover: bool,
    /// Look into this folder, in place of /srv, /opt, /var/www and /home
    #[arg(long, value_name = "DIR")]
    look_in: Vec<PathBuf>,
    /// How much may be lost at worst: 26h, or of one thing: uploads=7h [default: 26h]
    #[arg(long, value_name = "[NAME=]LENGTH")]
    rpo: Vec<String>,
    /// How long an outage may last, likewise [default: 4h]
    #[arg(long, value_name = "[NAME=]LENGTH")]
    rto: Vec<String>,
    /// A folder for copies near by: another disk, or a mounted NAS
    #[arg(long, value_name = "PATH")]
    local: Vec<String>,
    /// A place for copies elsewhere: s3://BUCKET/PREFIX, sftp://HOST/PATH, …, or a folder on what is carried away
    #[arg(long, value_name = "PLACE")]
    offsite: Vec<String>,
    /// Where the data stands [default: here]
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Where the places elsewhere stand [default: their region or host]
    #[arg(long, value_name = "NAME")]
    offsite_site: Option<String>,
    /// Prices, by which classes are chosen and costs are told
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// What the loss of something would mean: uploads=critical, or important, ordinary
    #[arg(long, value_name = "NAME=WORD")]
    criticality: Vec<String>,
    /// How large something is whose size cannot be seen: app=20GB
    #[arg(long, value_name = "NAME=SIZE")]
    size: Vec<String>,
    /// How much of something changes in a day: app=5%
    #[arg(long, value_name = "NAME=PERCENT")]
    change: Vec<String>,
    /// Whose nights these are, as Europe/Paris [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Who is told when something goes wrong: an address of mail, or a file that holds the address of a webhook
    #[arg(long, value_name = "ADDRESS|FILE")]
    notify: Vec<String>,
    /// Ask nothing: take what was found and what is usual
    #[arg(short, long)]
    yes: bool,
    /// Write backup.toml, MATRIX.md, RUNBOOK.md, units, alert rules and scripts into this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long, requires = "output")]
    force: bool,
    /// Where the program lies on the machine that runs units and scripts; where it lies on this one when not given
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let asks = !args.yes && !session.console.is_json() && Questions::can_be_asked();
    let (found, mut notes) = find(args, asks)?;
    if found.is_empty() {
        let hint = "name it with --source, or folders to look into with --look-in";
        return Err(Failure::usage("nothing was found that is worth a backup", hint));
    }
    let site = args.site.clone().unwrap_or_else(|| "here".to_owned());
    let destinations = destinations(args, asks, &site)?;
    refuse_one_twice(&destinations)?;
    let said = said(args, asks)?;
    let (zone, zone_name) = zone(args, asks)?;
    let notified = notified(args, asks)?;
    let prices = args.prices.as_deref().map(prices::read).transpose()?;
    let answers = answers::answers(&found, &destinations, &said, zone, &site, prices)?;
    let strategy = advise(&answers, SystemClock.now()).map_err(|impossible| {
        let hint =
            format!("allow more with --rpo {0}=LENGTH, or correct its size with --size {0}=SIZE", impossible.name);
        Failure::usage(impossible.to_string(), hint)
    })?;
    let password_file = session.globals.password_file.first().map_or("/etc/backup/passphrase".into(), PathBuf::clone);
    let password_file = absolute(&password_file)?;
    let plan = Plan {
        strategy: &strategy,
        found: &found,
        destinations: &destinations,
        zone: &zone_name,
        site: &site,
        password_file: &password_file,
        currency: answers.prices.as_ref().map(|prices: &Prices| prices.currency.as_str()),
        notified: &notified,
        host: &identity(None).hostname,
    };
    notes.extend(to_see_to(&plan, &answers));
    let text = plan.text();
    let path = args.output.as_deref().map(absolute).transpose()?.map(|folder| folder.join("backup.toml"));
    // What is proposed has to be what this program itself takes.
    let config = Config::read(path.as_deref().unwrap_or(Path::new("backup.toml")), &text, &|_| None)?;
    let summary = told::summary(&plan, &notes);
    match &args.output {
        None => {
            let document = document(&text, &plan, &notes, None, &[]);
            session.console.either(&document, || text.clone())?;
            session.console.note(&format!("\n{summary}"));
        }
        Some(folder) => {
            let folder = absolute(folder)?;
            let outputs = outputs(args, &folder, &plan, &config, &text)?;
            let present = if args.force { Present::Replace } else { Present::Refuse };
            output::write(&folder, &outputs, present)?;
            let document = document(&text, &plan, &notes, Some(&folder), &outputs);
            session.console.note(&summary);
            session.console.either(&document, || {
                let files = amounts::counted(outputs.len() as u64, "file");
                format!(
                    "{files} in {0}; now: backup --config {0}/backup.toml config check, then init, then run",
                    folder.display()
                )
            })?;
        }
    }
    Ok(Exit::Done)
}

/// What was named or found, and what is to say of what was not taken.
fn find(args: &Args, asks: bool) -> Result<(Vec<Found>, Vec<String>), Failure> {
    let mut given = Vec::new();
    for source in &args.source {
        given.extend(Found::given(source)?);
    }
    let mut notes = Vec::new();
    if args.source.is_empty() || args.discover || !args.look_in.is_empty() {
        if args.source.is_empty() && !asks && !args.yes && args.look_in.is_empty() {
            let hint = "name it with --source, or give --yes to take what is found on this machine";
            return Err(Failure::usage("nothing was named to back up, and there is no terminal to ask on", hint));
        }
        let mut seen = Vec::new();
        if args.source.is_empty() && args.look_in.is_empty() || args.discover {
            let servers = machine::servers();
            seen.extend(servers.found);
            for url in servers.unnamed {
                let named = if asks { ask_database(&url)? } else { None };
                match named {
                    Some(found) => given.push(found),
                    None => notes.push(format!(
                        "a server of MySQL listens here, and of it each database is backed up by itself: --source {url}DATABASE"
                    )),
                }
            }
            if Path::new("/etc").is_dir() {
                seen.extend(Found::given("/etc")?.into_iter().take(1));
            }
        }
        let usual = || folders::USUAL.iter().map(PathBuf::from).filter(|folder| folder.is_dir()).collect();
        let folders: Vec<PathBuf> = if args.look_in.is_empty() { usual() } else { args.look_in.clone() };
        let folders = folders.iter().map(|folder| absolute(folder)).collect::<Result<Vec<_>, _>>()?;
        seen.extend(folders::search(&folders)?);
        for found in seen {
            let size = found.bytes.map(|bytes| format!(", {}", amounts::size(bytes))).unwrap_or_default();
            let question = format!("back up {} ({}{size})?", found.named(), found.how);
            if !asks || Questions.agree(&question)? {
                given.push(found);
            }
        }
    }
    if asks && args.source.is_empty() {
        given.extend(ask_for_more()?);
    }
    Ok((settled(given), notes))
}

fn ask_database(url: &str) -> Result<Option<Found>, Failure> {
    Questions.ask("a server of MySQL listens here: which database of it?", "none", |answer| match answer {
        "none" => Ok(None),
        name => Found::database(&format!("{url}{name}"), "named for a server that listens here".to_owned())
            .map(Some)
            .map_err(|failure| failure.what),
    })
}

fn ask_for_more() -> Result<Vec<Found>, Failure> {
    let mut more = Vec::new();
    loop {
        let question = if more.is_empty() { "what else, a path or a database's URL?" } else { "and what else?" };
        let found = Questions.ask(question, "nothing", |answer| match answer {
            "nothing" => Ok(Vec::new()),
            source => Found::given(source).map_err(|failure| failure.what),
        })?;
        if found.is_empty() {
            return Ok(more);
        }
        more.extend(found);
    }
}

/// One place under two names holds one copy.
fn refuse_one_twice(destinations: &[Destination]) -> Result<(), Failure> {
    for (at, one) in destinations.iter().enumerate() {
        if destinations.iter().take(at).any(|other| other.place == one.place) {
            let what = format!("{} is named twice, and holds one copy", one.place);
            return Err(Failure::usage(what, "name another disk, or another place"));
        }
    }
    Ok(())
}

fn destinations(args: &Args, asks: bool, site: &str) -> Result<Vec<Destination>, Failure> {
    let name = |base: &str, at: usize| if at == 0 { base.to_owned() } else { format!("{base}-{}", at + 1) };
    let mut all = Vec::new();
    for (at, path) in args.local.iter().enumerate() {
        all.push(Destination::near(path, name("local", at), site)?);
    }
    if asks && args.local.is_empty() {
        let question = "a folder for copies near by, on another disk or a mounted NAS?";
        all.extend(Questions.ask(question, "/mnt/backups/repo", |answer| {
            let near = |path: &str| Destination::near(path, "local".to_owned(), site);
            place_answered(answer)?.map(near).transpose().map_err(|failure| failure.what)
        })?);
    }
    let elsewhere = args.offsite_site.as_deref();
    for (at, place) in args.offsite.iter().enumerate() {
        all.push(Destination::far(place, name("offsite", at), elsewhere)?);
    }
    if asks && args.offsite.is_empty() {
        let question = "a place for copies elsewhere, as s3://BUCKET/PREFIX?region=… or sftp://USER@HOST/PATH?";
        all.extend(Questions.ask(question, "none", |answer| {
            let far = |place: &str| Destination::far(place, "offsite".to_owned(), elsewhere);
            place_answered(answer)?.map(far).transpose().map_err(|failure| failure.what)
        })?);
    }
    match all.is_empty() {
        true => Err(Failure::usage(
            "no place was named for copies",
            "give --local PATH for one near by, and --offsite PLACE for one elsewhere",
        )),
        false => Ok(all),
    }
}

/// A place that somebody typed, or that there is none. A word alone would be a folder that nobody meant.
fn place_answered(answer: &str) -> Result<Option<&str>, String> {
    match answer {
        "none" | "no" | "nothing" => Ok(None),
        place if place.contains([':', '/']) => Ok(Some(place)),
        word => Err(format!("{word:?} is no place: write a path from the root, a URL, or none")),
    }
}

fn said(args: &Args, asks: bool) -> Result<Said, Failure> {
    let length = |text: &str| match config::length(text) {
        Ok(length) if length.is_positive() => Ok(length),
        Ok(_) => Err(format!("{text:?} is no time at all")),
        Err(why) => Err(why),
    };
    let (loss, losses) = of_all_and_each(&args.rpo, "--rpo", length)?;
    let (outage, outages) = of_all_and_each(&args.rto, "--rto", length)?;
    let ask = |given: Option<SignedDuration>, question: &str, usual: SignedDuration| match given {
        None if asks => Questions.ask(question, &configuration::length(usual), length),
        given => Ok(given.unwrap_or(usual)),
    };
    let loss = ask(loss, "how much may be lost at worst, of what matters?", LOSS)?;
    let outage = ask(outage, "how long may an outage last?", OUTAGE)?;
    let criticality = |word: &str| {
        Criticality::of_word(word).ok_or_else(|| format!("{word:?} is none of critical, important and ordinary"))
    };
    let percent = |text: &str| match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("{text:?} is no percentage: write 5%")),
    };
    Ok(Said {
        bearable: Some(Bearable { loss, outage }),
        losses,
        outages,
        criticalities: of_each(&args.criticality, "--criticality", criticality)?,
        sizes: of_each(&args.size, "--size", amounts::parse_size)?,
        changes: of_each(&args.change, "--change", percent)?,
    })
}

/// What an option says of all, and what of each that it names.
fn of_all_and_each<T>(
    given: &[String],
    option: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(Option<T>, BTreeMap<String, T>), Failure> {
    let (named, all): (Vec<_>, Vec<_>) = given.iter().cloned().partition(|text| text.contains('='));
    let wrong = |why: String| Failure::usage(format!("{option}: {why}"), "write 26h, or NAME=7h");
    let all = match all.as_slice() {
        [] => None,
        [one] => Some(parse(one).map_err(wrong)?),
        _ => return Err(Failure::usage(format!("{option} is given twice for all"), "write NAME=LENGTH for one thing")),
    };
    Ok((all, of_each(&named, option, parse)?))
}

fn of_each<T>(
    given: &[String],
    option: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, Failure> {
    let each = |text: &String| {
        let wrong = |why: String| Failure::usage(format!("{option}: {why}"), format!("{option} NAME=VALUE"));
        // A source that is a URL may have an = of its own.
        let (name, value) = text.rsplit_once('=').ok_or_else(|| wrong(format!("{text:?} names nothing")))?;
        Ok((name.to_owned(), parse(value).map_err(wrong)?))
    };
    given.iter().map(each).collect()
}

fn zone(args: &Args, asks: bool) -> Result<(TimeZone, String), Failure> {
    let parse = |name: &str| match TimeZone::get(name) {
        Ok(zone) => Ok((zone, name.to_owned())),
        Err(_) => Err(format!("no time zone is called {name:?}")),
    };
    let system = TimeZone::system().iana_name().unwrap_or("UTC").to_owned();
    match &args.timezone {
        Some(name) => parse(name).map_err(|why| Failure::usage(why, "write Europe/Paris or UTC")),
        None if asks => Questions.ask("whose nights are these?", &system, parse),
        None => parse(&system).or_else(|_| parse("UTC")).map_err(Failure::new),
    }
}

/// What somebody has to do besides.
fn to_see_to(plan: &Plan<'_>, answers: &Answers) -> Vec<String> {
    let mut notes = Vec::new();
    if !plan.has_offsite() {
        notes.push(
            "no place elsewhere was named: what happens to this site happens to all copies (--offsite PLACE)"
                .to_owned(),
        );
    }
    if !plan.password_file.exists() {
        notes.push(format!(
            "make the passphrase, and keep a second copy of it elsewhere: backup key generate {}",
            plan.password_file.display()
        ));
    }
    if answers.items.iter().any(|item| item.kind.is_database() && item.bytes.is_none()) {
        notes.push(
            "sizes of databases on servers are not asked for: --size NAME=20GB makes estimates of what they store and take"
                .to_owned(),
        );
    }
    if plan.strategy.jobs.iter().any(|job| job.on_change) {
        notes.push(
            "only `backup daemon` watches files; with the units of systemd, what runs on change runs by its schedule alone"
                .to_owned(),
        );
    }
    if plan.notified.is_empty() {
        notes.push("nobody is told when something goes wrong: --notify ADDRESS, or [notify] in backup.toml".to_owned());
    }
    notes.extend(plan.notified.iter().filter_map(Notified::to_see_to));
    notes
}

fn notified(args: &Args, asks: bool) -> Result<Vec<Notified>, Failure> {
    if !args.notify.is_empty() || !asks {
        let parse = |who: &String| {
            Notified::parse(who).map_err(|why| {
                Failure::usage(format!("--notify: {why}"), "--notify ops@example.org, or --notify /etc/backup/hook")
            })
        };
        return args.notify.iter().map(parse).collect();
    }
    let question =
        "who is told when something goes wrong: an address of mail, or a file that holds the address of a webhook?";
    let one = Questions.ask(question, "nobody", |answer| match answer {
        "nobody" | "none" | "no" => Ok(None),
        who => Notified::parse(who).map(Some),
    })?;
    Ok(one.into_iter().collect())
}

fn outputs(args: &Args, folder: &Path, plan: &Plan<'_>, config: &Config, text: &str) -> Result<Vec<Output>, Failure> {
    let plain = |name: String, text: String| Output { name, text, is_program: false };
    let mut outputs = vec![
        plain("backup.toml".to_owned(), text.to_owned()),
        plain("MATRIX.md".to_owned(), told::matrix(plan)),
        plain("RUNBOOK.md".to_owned(), markdown(&[runbook(&runbooks::of_proposal(config))])),
        plain("alerts.yml".to_owned(), alerts::rules(config)),
    ];
    let path = match &args.program {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| Failure::because("the path of this program", &error))?,
    };
    let program = Program { path, config: folder.join("backup.toml") };
    let jobs: Vec<_> = config.jobs.iter().collect();
    let (timed, _) = units::timed(config, &jobs);
    for unit in units::systemd::units(&program, &timed)? {
        outputs.push(plain(format!("units/{}", unit.name), unit.text));
    }
    let of = |is_database: bool| -> Vec<&str> {
        let jobs = plan.strategy.jobs.iter().filter(|job| job.kind.is_database() == is_database);
        jobs.map(|job| job.name.as_str()).collect()
    };
    let nearest = plan.destinations.first().map_or("local", |destination| destination.name.as_str());
    let names =
        Names { program: &program.path, config: &program.config, databases: &of(true), files: &of(false), nearest };
    let scripts =
        scripts(names).map(|script| Output { name: script.name.to_owned(), text: script.text, is_program: true });
    outputs.extend(scripts);
    Ok(outputs)
}

fn document(
    text: &str,
    plan: &Plan<'_>,
    notes: &[String],
    folder: Option<&Path>,
    outputs: &[Output],
) -> serde_json::Value {
    let found = |found: &Found| json!({"job": found.name, "source": found.named(), "how": found.how});
    json!({
        "configuration": text,
        "found": plan.found.iter().map(found).collect::<Vec<_>>(),
        "strategy": plan.strategy,
        "currency": plan.currency,
        "terms": backup_core::advice::TERMS,
        "notes": notes,
        "folder": folder.map(|folder| folder.to_string_lossy()),
        "files": outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::because(format!("{}", path.display()), &error))
}
