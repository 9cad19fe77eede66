//! Questions to who sits at the terminal. Enter takes what stands in brackets.

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use crate::console::signals;
use crate::exit::Failure;

/// Who asks.
pub(crate) struct Questions;

impl Questions {
    /// Whether somebody is there to answer.
    pub(crate) fn can_be_asked() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks until the answer means something.
    ///
    /// # Errors
    ///
    /// When the terminal has gone.
    pub(crate) fn ask<T>(
        &self,
        question: &str,
        usual: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        loop {
            let typed = self.line(&format!("{question} [{usual}] "))?;
            let answer = if typed.is_empty() { usual } else { &typed };
            match parse(answer) {
                Ok(meaning) => return Ok(meaning),
                Err(why) => crate::console::say(&format!("  {why}")),
            }
        }
    }

    /// Asks for yes or no.
    ///
    /// # Errors
    ///
    /// When the terminal has gone.
    pub(crate) fn agree(&self, question: &str) -> Result<bool, Failure> {
        self.ask(question, "yes", |answer| match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            _ => Err("yes or no".to_owned()),
        })
    }

    fn line(&self, prompt: &str) -> Result<String, Failure> {
        let mut err = anstream::stderr().lock();
        let _ = err.write_all(prompt.as_bytes());
        let _ = err.flush();
        drop(err);
        let mut line = String::new();
        let read = signals::while_typing(|| io::stdin().lock().read_line(&mut line));
        match read {
            Ok(0) => Err(Failure::usage(
                "the questions were not answered",
                "give the answers as options: backup advise --help",
            )),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(Failure::because("the terminal", &error)),
        }
    }
}
