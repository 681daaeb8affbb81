//! Lists of pictures with labels, and work on many pictures at once.

use crate::failure::{Failure, Outcome};
use crate::model::is_folder;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A picture of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The file as the list has it.
    pub file: String,
    /// Its class, if the list has one.
    pub label: Option<i64>,
}

/// The text of a file, without the mark of its encoding that some editors put in front.
pub fn read_text(path: &Path) -> Outcome<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

fn read_lines(path: &Path) -> Outcome<Vec<String>> {
    let text = read_text(path)?;
    Ok(text.lines().map(|l| l.trim().to_string()).collect())
}

/// Whether a file is an array, an archive of arrays, or is called like a tensor of ONNX.
pub fn is_array(path: &Path) -> Outcome<bool> {
    use std::io::Read;
    if is_folder(path)? {
        return Ok(false);
    }
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Failure::io(path, &e))?;
    file.take(6).read_to_end(&mut head).map_err(|e| Failure::io(path, &e))?;
    Ok(head == b"\x93NUMPY" || head.starts_with(b"PK") || path.extension().is_some_and(|e| e == "pb"))
}

/// Files whose arrays belong together: one of NumPy, or one for each input of a model, `input_0.pb`, `input_1.pb`, ...
pub struct ArraySet {
    /// The file's name, or that of the folder.
    pub name: String,
    /// The files, in the order of inputs.
    pub files: Vec<PathBuf>,
}

/// The sets of arrays in a folder, by name: its files of NumPy, its own inputs as ONNX stores test data, and those of each
/// folder in it.
///
/// # Errors
/// I/O.
pub fn array_sets(dir: &Path) -> Outcome<Vec<ArraySet>> {
    let mut found: Vec<ArraySet> = inputs_in(dir)?.into_iter().collect();
    for path in entries(dir)? {
        if path.is_dir() {
            found.extend(inputs_in(&path)?);
        } else if path.extension().is_some_and(|e| e == "npy" || e == "npz") && is_array(&path)? {
            found.push(ArraySet { name: file_name(&path), files: vec![path] });
        }
    }
    Ok(found)
}

/// The inputs of one run in a folder of ONNX test data.
fn inputs_in(dir: &Path) -> Outcome<Option<ArraySet>> {
    let number = |path: &PathBuf| file_name(path).strip_prefix("input_")?.strip_suffix(".pb")?.parse::<usize>().ok();
    let mut files: Vec<(usize, PathBuf)> =
        entries(dir)?.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    files.sort();
    let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    Ok((!files.is_empty()).then(|| ArraySet { name: file_name(dir), files }))
}

/// What is in a folder, by name.
fn entries(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Failure::io(dir, &e))?;
    let paths = entries.map(|entry| Ok(entry.map_err(|e| Failure::io(dir, &e))?.path()));
    let mut paths = paths.collect::<Outcome<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Gives each picture of a folder the number of the folder that it is in as its class, if all are in one; returns the
/// folders' names, in order.
pub fn class_folders(list: &mut [Listed]) -> Vec<String> {
    let of = |listed: &Listed| listed.file.split_once('/').map(|(folder, _)| folder.to_string());
    let Some(folders) = list.iter().map(of).collect::<Option<Vec<String>>>() else { return Vec::new() };
    let mut names = folders.clone();
    names.sort();
    names.dedup();
    for (listed, folder) in list.iter_mut().zip(&folders) {
        listed.label = names.binary_search(folder).ok().map(|i| i as i64);
    }
    names
}

/// Names of classes, one a line.
pub fn read_names(path: &Path) -> Outcome<Vec<String>> {
    read_lines(path)
}

/// Reads a list of lines `<file> <label>` or `<file>`.
///
/// # Errors
/// I/O, or a list without any line.
pub fn read_list(path: &Path) -> Outcome<Vec<Listed>> {
    let parse = |line: &String| match line.rsplit_once(char::is_whitespace) {
        Some((file, label)) if label.parse::<i64>().is_ok() => {
            Listed { file: file.trim_end().to_string(), label: label.parse().ok() }
        }
        _ => Listed { file: line.clone(), label: None },
    };
    let lines = read_lines(path)?;
    let list: Vec<Listed> = lines.iter().filter(|l| !l.is_empty() && !l.starts_with('#')).map(parse).collect();
    match list.is_empty() {
        true => Err(Failure::content(path, "the list has no line `<file> <label>`")),
        false => Ok(list),
    }
}

/// The JPEG and PNG files in a folder and the folders in it, by name, and the names of all other files.
///
/// # Errors
/// I/O, or a folder without pictures.
pub fn folder(path: &Path) -> Outcome<(Vec<Listed>, Vec<String>)> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut open = vec![path.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| Failure::io(&dir, &e))? {
            let entry = entry.map_err(|e| Failure::io(&dir, &e))?;
            let kind = entry.file_type().map_err(|e| Failure::io(&dir, &e))?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if let Ok(inside) = entry.path().strip_prefix(path) {
                let file = inside.to_string_lossy().into_owned();
                match is_picture(&entry.path()) {
                    true => found.push(Listed { file, label: None }),
                    false => others.push(file),
                }
            }
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    others.sort();
    match found.is_empty() {
        true => Err(Failure::content(path, "the folder holds no .jpg, .jpeg or .png file")),
        false => Ok((found, others)),
    }
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| ["jpg", "jpeg", "png"].contains(&&*e))
}

/// The folder that a list's files are in unless said otherwise: the list's own.
pub fn folder_of_list(list: &Path) -> PathBuf {
    list.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Does `count` pieces of work on `threads` threads, each with a state of its own, and gives the results in order and
/// the states. The first failure ends the work.
///
/// # Errors
/// The failure of the piece that comes first among those that failed.
pub fn in_parallel<S: Send, R: Send>(
    count: usize,
    threads: usize,
    make: impl Fn() -> Outcome<S> + Sync,
    work: impl Fn(&mut S, usize) -> Outcome<R> + Sync,
) -> Outcome<(Vec<R>, Vec<S>)> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(Vec::new());
    let worker = || -> Outcome<S> {
        let mut state = make()?;
        while !failed.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            let result = work(&mut state, i);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if let Ok(mut all) = results.lock() {
                all.push((i, result));
            }
        }
        Ok(state)
    };
    let states = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.clamp(1, count.max(1))).map(|_| scope.spawn(worker)).collect();
        let join = |h: std::thread::ScopedJoinHandle<'_, Outcome<S>>| {
            h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().map(join).collect::<Vec<_>>()
    });
    let states = states.into_iter().collect::<Outcome<Vec<S>>>()?;
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(i, _)| *i);
    Ok((results.into_iter().map(|(_, r)| r).collect::<Outcome<Vec<R>>>()?, states))
}

/// Threads for work on many pictures when nobody says.
pub fn default_threads() -> usize {
    qc_embed::threads::default_threads().unwrap_or(1) as usize
}
