//! Which databases a server has.

use backup_core::Result;

use super::connection::Connection;
use super::server::Server;

/// Where to ask when no database was named.
const USUAL_DATABASES: [&str; 2] = ["postgres", "template1"];

/// Databases that belong to the provider of a managed server: nobody else may connect to them.
const OF_PROVIDERS: [&str; 4] = ["rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"];

/// The names of all databases of a server that can be backed up: no templates, none that refuses connections, none of
/// the provider's own.
pub fn databases(server: &Server) -> Result<Vec<String>> {
    let [first, second] = USUAL_DATABASES;
    let (connection, _) = Connection::open(server, first).or_else(|_| Connection::open(server, second))?;
    let sql = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
    let names = connection.ask(sql)?.into_iter().flatten().flatten();
    Ok(names.filter(|name| !OF_PROVIDERS.contains(&name.as_str())).collect())
}
