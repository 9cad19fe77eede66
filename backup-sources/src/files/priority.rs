//! Stepping back behind the work that the machine is there for.

use backup_core::{Error, ErrorKind, Result};
use ioprio::{Class, Pid, Priority, Target};

/// The lowest priority that leaves a program running at all.
const NICE: i32 = 19;

/// Lets everybody else go first: the processor at the lowest priority, the disk only when nobody else wants it.
///
/// It holds for the calling thread and those that it starts from now on, so a program calls it first of all. It cannot
/// be taken back without privileges. Disk schedulers without classes (`none`, `mq-deadline`) pay no heed to the second
/// half.
pub fn step_back() -> Result<()> {
    let failed = |what: &str, error: std::io::Error| {
        Error::new(ErrorKind::Source(format!("{what} could not be lowered")), "this process").caused_by(error)
    };
    rustix::process::setpriority_process(None, NICE).map_err(|error| failed("the priority", error.into()))?;
    ioprio::set_priority(Target::Process(Pid::from_raw(0)), Priority::new(Class::Idle))
        .map_err(|error| failed("the disk priority", std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_steps_back_is_last() {
        std::thread::spawn(|| {
            step_back().unwrap();
            let priority = ioprio::get_priority(Target::Process(Pid::from_raw(0))).unwrap();
            assert!(matches!(priority.class(), Some(Class::Idle)));
            assert_eq!(rustix::process::getpriority_process(None).unwrap(), NICE);
        })
        .join()
        .unwrap();
    }
}
