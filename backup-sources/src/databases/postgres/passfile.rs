//! libpq's file of passwords, `~/.pgpass`: `host:port:database:user:password`, a star for any, the first that fits.

use crate::databases::url::Password;

/// The password for a connection in the text of such a file.
pub(super) fn find(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<Password> {
    let port = port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line);
        let fits = [host, &port, database, user].into_iter().all(|wanted| {
            fields.next().is_some_and(|(field, is_literal)| field == wanted || (field == "*" && !is_literal))
        });
        let (password, _) = fields.next().filter(|_| fits)?;
        Some(Password::new(password))
    })
}

/// The fields of a line, without their backslashes, and whether they had any. The fifth is the rest of the line.
fn fields(line: &str) -> impl Iterator<Item = (String, bool)> {
    let mut rest = line.chars();
    (0..5).map(move |index| {
        let (mut field, mut is_literal) = (String::new(), false);
        while let Some(character) = rest.next() {
            match character {
                ':' if index < 4 => break,
                '\\' => {
                    is_literal = true;
                    field.extend(rest.next());
                }
                character => field.push(character),
            }
        }
        (field, is_literal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# a comment\nh:5432:db:me:one\nh:*:*:me:two\\:\\\\three:four\n*:*:*:*:any\n\\*:*:*:x:star\n";
        let of = |host: &str, database: &str, user: &str| {
            find(text, host, 5432, database, user).map(|password| password.reveal().to_owned())
        };
        assert_eq!(of("h", "db", "me").as_deref(), Some("one"));
        assert_eq!(of("h", "other", "me").as_deref(), Some("two:\\three:four"));
        assert_eq!(of("elsewhere", "db", "you").as_deref(), Some("any"));
        assert_eq!(find("h:1:db", "h", 1, "db", "me"), None);
        assert_eq!(find("\\*:*:*:*:x", "h", 1, "db", "me"), None);
        assert_eq!(find("", "h", 1, "db", "me"), None);
    }
}
