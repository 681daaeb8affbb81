//! Options from files: `--config FILE` or `QC_CONFIG`, else the user's `qc/config.toml` and the project's `qc.toml`.
//!
//! ```toml
//! quiet = true            # options that several commands share
//! [compile]
//! target-cpu = "fat"
//! batch = [1, 8]
//! ```
//!
//! What a file says is put into the command line in front of what the user typed, unless the user typed that option: so a
//! file can say whatever the command line can, and is checked by the same parser. The project's file goes before the
//! user's, and the command line before both.

use crate::failure::{Failure, Outcome};
use clap::{ArgMatches, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The project's file, in the working directory.
const PROJECT: &str = "qc.toml";
/// Options that say where configuration comes from and goes to, and are not configuration themselves.
const OWN: [&str; 2] = ["config", "dump-config"];

/// The command line with the options of configuration files put in, and the files that were read.
///
/// # Errors
/// A file that cannot be read (4), or says what `command` does not know (2).
pub fn with_files(command: &Command, args: Vec<OsString>) -> Outcome<(Vec<OsString>, Vec<PathBuf>)> {
    let Some((at, sub)) = subcommand(command, &args) else { return Ok((args, Vec::new())) };
    if sub.get_name() == "help" {
        return Ok((args, Vec::new()));
    }
    let (mut given, mut found) = (Vec::new(), Vec::new());
    for (path, required) in files(&args) {
        let Some(table) = read(&path, required)? else { continue };
        given.extend(options(command, sub, &table, &args, &path, &given)?);
        found.push(path);
    }
    let mut all = args;
    all.splice(at + 1..at + 1, given.into_iter().flat_map(|(_, words)| words));
    Ok((all, found))
}

/// Position and definition of the subcommand.
fn subcommand<'c>(command: &'c Command, args: &[OsString]) -> Option<(usize, &'c Command)> {
    let mut skip = true;
    for (at, arg) in args.iter().enumerate() {
        if !std::mem::take(&mut skip) {
            if let Some(sub) = command.find_subcommand(arg) {
                return Some((at, sub));
            }
            skip = OWN.iter().any(|own| arg.to_str().and_then(|a| a.strip_prefix("--")) == Some(own));
        }
    }
    None
}

/// The files to read, the strongest first, and whether they must exist.
fn files(args: &[OsString]) -> Vec<(PathBuf, bool)> {
    let mut words = args.iter().filter_map(|a| a.to_str());
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(|path| (path.into(), true)).into_iter().collect();
        }
        if let Some(path) = word.strip_prefix("--config=") {
            return vec![(path.into(), true)];
        }
    }
    if let Some(path) = std::env::var_os("QC_CONFIG") {
        return vec![(path.into(), true)];
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let user = user.map(|dir| (dir.join("qc/config.toml"), false));
    [Some((PathBuf::from(PROJECT), false)), user].into_iter().flatten().collect()
}

fn read(path: &Path, required: bool) -> Outcome<Option<Table>> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.parse().map(Some).map_err(|e: toml::de::Error| {
            Failure::usage(format!("{}: not a TOML file: {}", path.display(), e.message()))
        }),
        Err(e) if !required && e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::io(path, &e)),
    }
}

/// An option by name, and the words it adds to the command line.
type Given = (String, Vec<OsString>);

/// The options of `table` for `sub` that neither the command line nor a stronger file gives.
fn options(
    command: &Command,
    sub: &Command,
    table: &Table,
    args: &[OsString],
    path: &Path,
    stronger: &[Given],
) -> Outcome<Vec<Given>> {
    let mut found = Vec::new();
    let shared = table.iter().filter(|(_, value)| !value.is_table()).map(|(key, value)| (key, value, false));
    let own = table.get(sub.get_name()).and_then(Value::as_table).into_iter().flatten();
    for (key, value, own) in shared.chain(own.map(|(key, value)| (key, value, true))) {
        let name = if own { format!("{}.{key}", sub.get_name()) } else { key.clone() };
        let fail = |text: String| Failure::usage(format!("{}: {name}: {text}", path.display()));
        let known = |c: &Command| c.get_arguments().find(|a| is_called(a, key)).cloned();
        let Some(arg) = known(sub).or_else(|| known(command)).filter(|_| !OWN.contains(&key.as_str())) else {
            if !own && command.get_subcommands().any(|c| known(c).is_some()) {
                continue;
            }
            return Err(fail(format!("there is no such option; `qc {} --help` lists all", sub.get_name())));
        };
        let typed = args.iter().filter_map(|a| a.to_str()).any(|word| is_typed(&arg, word));
        if typed || stronger.iter().chain(&found).any(|(n, _): &Given| n == key) {
            continue;
        }
        found.push((key.clone(), words(key, value, arg.get_action().takes_values()).map_err(fail)?));
    }
    if let Some(unknown) = table.iter().find(|(key, v)| v.is_table() && command.find_subcommand(key).is_none()) {
        return Err(Failure::usage(format!("{}: there is no command `{}`", path.display(), unknown.0)));
    }
    Ok(found)
}

/// Whether `key` is the name of an option, or another spelling of it.
fn is_called(arg: &clap::Arg, key: &str) -> bool {
    arg.get_long() == Some(key) || arg.get_all_aliases().is_some_and(|all| all.contains(&key))
}

fn is_typed(arg: &clap::Arg, word: &str) -> bool {
    let long = word.strip_prefix("--").is_some_and(|w| is_called(arg, w.split('=').next().unwrap_or(w)));
    let short = |c| word.strip_prefix('-').is_some_and(|w| w.starts_with(c));
    long || arg.get_short().is_some_and(short)
}

/// The words that give option `key` its value.
fn words(key: &str, value: &Value, takes_values: bool) -> Result<Vec<OsString>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(format!("--{key}={text}").into()),
        Value::Integer(n) => Ok(format!("--{key}={n}").into()),
        Value::Float(x) => Ok(format!("--{key}={x}").into()),
        _ => Err("give text, a number, or a list of them".to_string()),
    };
    match value {
        Value::Boolean(on) if !takes_values => Ok(if *on { vec![format!("--{key}").into()] } else { vec![] }),
        _ if !takes_values => Err("give true or false".into()),
        Value::Array(list) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// The options in effect as a configuration file, defaults included.
pub fn effective(command: &Command, matches: &ArgMatches) -> String {
    let mut all = Table::new();
    let mut read = |command: &Command, matches: &ArgMatches, into: Option<&str>| {
        let mut table = Table::new();
        for arg in command.get_arguments() {
            let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
            if OWN.contains(&long) || !matches.ids().any(|i| i.as_str() == id) {
                continue;
            }
            if !arg.get_action().takes_values() {
                table.insert(long.into(), Value::Boolean(matches.get_flag(id)));
                continue;
            }
            let values = matches.get_raw(id).into_iter().flatten();
            let values: Vec<Value> = values.map(|v| number_or_text(&v.to_string_lossy())).collect();
            match <[Value; 1]>::try_from(values) {
                Ok([value]) => table.insert(long.into(), value),
                Err(values) => table.insert(long.into(), Value::Array(values)),
            };
        }
        match into {
            Some(name) => drop(all.insert(name.into(), Value::Table(table))),
            None => all.extend(table),
        }
    };
    read(command, matches, None);
    if let Some((name, matches)) = matches.subcommand()
        && let Some(sub) = command.find_subcommand(name)
    {
        read(sub, matches, Some(name));
    }
    all.to_string()
}

/// A whole number as itself, anything else as text.
fn number_or_text(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(n) if n.to_string() == text => Value::Integer(n),
        _ => Value::String(text.into()),
    }
}
