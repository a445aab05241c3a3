//! `escrowmq user`: makes and changes the file of users that a broker lets in.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CliError, print};
use crate::security::users::{self, NAME_RULE, Users, is_name};

#[derive(Debug, clap::Subcommand)]
pub(super) enum UserCommand {
    /// Adds a user, or gives a user another password and other groups.
    ///
    /// Reads the password from standard input, its first line; what is typed on a terminal is
    /// shown. Other lines of the file stay as they are; the file is made if there is none, for
    /// this user of the system alone to read. A running broker sees it at the next login.
    Set {
        /// The file of users, which security.users names in the broker's settings.
        file: PathBuf,
        /// The name.
        name: String,
        /// A group the user is in, once or more: rights can be given to it.
        #[arg(long, value_name = "GROUP")]
        group: Vec<String>,
        /// Lets the user in with a certificate of that name alone, with no password.
        #[arg(long)]
        no_password: bool,
    },
    /// Removes a user. Connections that are open stay open.
    Remove {
        /// The file of users.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// Prints the users with their groups, and checks the file.
    List {
        /// The file of users.
        file: PathBuf,
    },
}

pub(super) fn user(command: UserCommand) -> Result<ExitCode, CliError> {
    match command {
        UserCommand::Set { file, name, group, no_password } => {
            if let Some(wrong) = [&name].into_iter().chain(&group).find(|name| !is_name(name)) {
                return Err(format!("{wrong:?} cannot be a name: {NAME_RULE}").into());
            }
            let text = match fs::read_to_string(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                text => checked(&file, text)?,
            };
            let hash = if no_password { "-".to_owned() } else { users::hash(&password()?)? };
            write(&file, &users::with_user(&text, &name, &hash, &group))?;
            print(&format!("{name} is a user in {}\n", file.display()))
        }
        UserCommand::Remove { file, name } => {
            let text = checked(&file, fs::read_to_string(&file))?;
            let Some(left) = users::without_user(&text, &name) else {
                return Err(format!("there is no user {name} in {}", file.display()).into());
            };
            write(&file, &left)?;
            print(&format!("{name} is no user in {} any more\n", file.display()))
        }
        UserCommand::List { file } => {
            let text = checked(&file, fs::read_to_string(&file))?;
            let mut table = String::new();
            for user in Users::parse(&text)?.iter() {
                let who = user.principal();
                let how = if user.has_password() { "password" } else { "certificate" };
                table.push_str(&format!("{}\t{how}\t{}\n", who.name, who.groups.join(",")));
            }
            print(&table)
        }
    }
}

fn password() -> Result<Vec<u8>, CliError> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        eprint!("password (it is shown): ");
    }
    let mut line = Vec::new();
    { input }.read_until(b'\n', &mut line)?;
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    if line.is_empty() {
        return Err("no password came on standard input".into());
    }
    Ok(line)
}

fn checked(file: &Path, text: io::Result<String>) -> Result<String, CliError> {
    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Users::parse(&text).map_err(|error| format!("{}, {error}", file.display()))?;
    Ok(text)
}

/// Puts a whole file in the place of the old one: a broker never reads half of it.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let mut name = file.file_name().ok_or("the file of users has no name")?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut options = OpenOptions::new();
    let wrong = |error| format!("{} cannot be written: {error}", new.display());
    let mut out =
        options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(wrong)?;
    if let Ok(old) = file.metadata() {
        out.set_permissions(old.permissions()).map_err(wrong)?;
    }
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(wrong)?;
    fs::rename(&new, file).map_err(wrong)?;
    Ok(())
}
