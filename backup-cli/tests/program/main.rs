//! The program as its users meet it: run, with its exit codes, its words and its JSON.

#[cfg(test)]
mod advise;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod drilled_jobs;
#[cfg(test)]
mod drills;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod json;
#[cfg(test)]
mod options;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod pushed;
#[cfg(test)]
mod restores;
#[cfg(test)]
mod runbook;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod wrong_use;
