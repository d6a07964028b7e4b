//! Keeps a key that was given on the command line out of `ps`, where every user of the machine reads it.

use std::ffi::{OsStr, OsString};

use super::{HIDDEN_VARIABLE, Hidden, KEY_VARIABLE};

/// Starts this program over with the key in the environment instead of on the command line, where every user
/// of the machine can read it. Returns only if that is not needed or not possible.
///
/// The environment of a process can be read by its own user and root only. If `WARPGATE_KEY` is set it
/// wins, so the argument is dropped.
pub fn hide(arguments: impl Iterator<Item = OsString>) {
    use std::os::unix::process::CommandExt as _;

    let Some((key, kept)) = without_key(arguments) else {
        return;
    };
    if std::env::var_os(HIDDEN_VARIABLE).is_some() {
        return; // once is enough, or a broken environment would start us over for ever
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut command = std::process::Command::new(program);
    let mut kept = kept.into_iter();
    if let Some(name) = kept.next() {
        command.arg0(name);
    }
    command.args(kept);
    if std::env::var_os(KEY_VARIABLE).is_none_or(|value| value.is_empty()) {
        command.env(KEY_VARIABLE, key).env(HIDDEN_VARIABLE, Hidden::Moved.as_str());
    } else {
        command.env(HIDDEN_VARIABLE, Hidden::Ignored.as_str());
    }
    // On success this process is gone; on failure the key stays where it is and a note says so.
    let _error = command.exec();
}

/// The key of `--key KEY` or `--key=KEY`, and all other arguments; `None` without one or with `--key -`.
fn without_key(arguments: impl Iterator<Item = OsString>) -> Option<(OsString, Vec<OsString>)> {
    let mut key = None;
    let mut kept = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            kept.push(argument);
            kept.extend(arguments.by_ref());
        } else if argument == "--key" && arguments.peek().is_some_and(|value| value != "-") {
            key = arguments.next();
        } else if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix("--key=")) {
            if value == "-" {
                kept.push(argument);
            } else {
                key = Some(OsStr::new(value).to_owned());
            }
        } else {
            kept.push(argument);
        }
    }
    key.map(|key| (key, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r25_the_key_leaves_the_command_line_in_both_spellings() {
        let split = |line: &str| {
            without_key(line.split(' ').map(OsString::from)).map(|(key, kept)| {
                let kept: Vec<_> = kept.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                (key.into_string().unwrap(), kept.join(" "))
            })
        };
        let hidden = |key: &str, rest: &str| Some((key.to_owned(), rest.to_owned()));
        assert_eq!(
            split("warpgate connect --key mzw_a --upstream x"),
            hidden("mzw_a", "warpgate connect --upstream x")
        );
        assert_eq!(split("warpgate connect --key=mzw_a"), hidden("mzw_a", "warpgate connect"));
        assert_eq!(split("warpgate connect --key -"), None);
        assert_eq!(split("warpgate connect --key=-"), None);
        assert_eq!(split("warpgate connect --key-file f"), None);
        assert_eq!(split("warpgate connect --key"), None);
        assert_eq!(split("warpgate connect -- --key x"), None);
    }
}
