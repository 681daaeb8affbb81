//! Data that a command is given: pictures by list or folder, arrays, or Paddle's binary form.

use crate::arrays::{self, Named};
use crate::failure::{Failure, Outcome};
use crate::model::is_folder;
use crate::paddle_bin::{PaddleBin, is_named_bin};
use crate::pictures::{Listed, array_sets, class_folders, folder, folder_of_list, is_array, read_list};
use std::path::{Path, PathBuf};

/// Data of one of these kinds.
pub enum Given {
    /// Files of pictures.
    Pictures(Pictures),
    /// Arrays of one file, or of the files that belong together.
    Arrays(Vec<Named>),
    /// Paddle's binary form.
    Bin(PaddleBin),
}

/// Files of pictures.
pub struct Pictures {
    /// The files, with classes where those are known.
    pub list: Vec<Listed>,
    /// The folder they are in.
    pub dir: PathBuf,
    /// Names of classes, where each has a folder.
    pub classes: Vec<String>,
    /// Files that are no pictures.
    pub others: Vec<String>,
}

impl Given {
    /// Finds out what is at a path. Files of a list are in `dir`, or in its own folder.
    ///
    /// # Errors
    /// I/O, and what holds no data.
    pub fn open(path: &Path, dir: Option<&Path>) -> Outcome<Given> {
        if is_folder(path)? {
            return match &array_sets(path)?[..] {
                [] => pictures(path),
                [one] => Ok(Given::Arrays(arrays::read_set(one)?)),
                several => {
                    let text = format!("holds {} sets of arrays; give one of its files", several.len());
                    Err(Failure::content(path, text))
                }
            };
        }
        if is_named_bin(path) {
            return Ok(Given::Bin(PaddleBin::open(path)?));
        }
        if is_array(path)? {
            return Ok(Given::Arrays(arrays::read(path)?));
        }
        let dir = dir.map_or_else(|| folder_of_list(path), Path::to_path_buf);
        Ok(Given::Pictures(Pictures { list: read_list(path)?, dir, classes: Vec::new(), others: Vec::new() }))
    }
}

/// The pictures of a folder, with the folders in it as classes if all are in one.
fn pictures(path: &Path) -> Outcome<Given> {
    let (mut list, others) = folder(path)?;
    let classes = class_folders(&mut list);
    Ok(Given::Pictures(Pictures { list, dir: path.into(), classes, others }))
}
