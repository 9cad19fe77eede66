//! `backup hold`: snapshots that no retention removes.

use backup_core::retention::Hold;
use jiff::Timestamp;

use crate::args::{Which, parse_time};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots: beginnings of ids, or `latest`
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
    /// End the hold at this time; without it the hold has no end
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Take the hold away
    #[arg(long, conflicts_with = "until")]
    release: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.until.is_some_and(|until| until <= Timestamp::now()) {
        return Err(Failure::usage("the hold would be over already", "--until takes a time to come"));
    }
    let hold = Hold { until: args.until };
    super::tag::change(&args.snapshots, &args.which, session, |tags| {
        if args.release { Hold::released_from(tags) } else { hold.placed_on(tags) }
    })
}
