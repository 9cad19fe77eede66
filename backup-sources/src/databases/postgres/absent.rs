//! What a dump does not have although pg_dump has no complaint: because of who connects, or of which server it is.

use super::connection::Connection;

/// Warnings of it, for people. `connection` need not be in a transaction; a server that does not answer is not told of here.
pub(super) fn absent(connection: &Connection) -> Vec<String> {
    let count = |sql: &str| connection.value(sql).ok().flatten()?.parse::<u64>().ok().filter(|count| *count > 0);
    let plural =
        |count: u64, one: &str, more: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {more}") };
    let mappings = count(HIDDEN_MAPPINGS).map(|count| {
        let what = plural(count, "user mapping of a foreign server is", "user mappings of foreign servers are");
        format!("{what} in it without options, such as passwords, which this user may not read")
    });
    let unlogged = count(UNLOGGED_ON_STANDBY).map(|count| {
        let what = plural(count, "unlogged table is", "unlogged tables are");
        format!("{what} in it without rows: a standby has none of them")
    });
    mappings.into_iter().chain(unlogged).collect()
}

/// By the same rules as the view `pg_user_mappings` shows options.
const HIDDEN_MAPPINGS: &str = "SELECT count(*) FROM pg_catalog.pg_user_mappings m \
    JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid JOIN pg_catalog.pg_roles r ON r.rolname = current_user \
    WHERE m.umoptions IS NULL AND NOT r.rolsuper AND NOT pg_has_role(s.srvowner, 'USAGE') \
    AND NOT (m.umuser = r.oid AND has_server_privilege(s.oid, 'USAGE'))";

const UNLOGGED_ON_STANDBY: &str = "SELECT count(*) FROM pg_catalog.pg_class \
    WHERE pg_is_in_recovery() AND relkind = 'r' AND relpersistence = 'u'";
