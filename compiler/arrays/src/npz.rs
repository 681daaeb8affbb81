//! The `.npz` format: a zip archive whose members are `.npy` files, called by the names of the arrays.

use crate::npy;
use qc_ir::HostTensor;
use std::io::{Cursor, Read, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// How the name of a member ends.
const SUFFIX: &str = ".npy";

/// An `.npz` file, whose arrays are read one by one.
pub struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    names: Vec<String>,
}

impl<'a> Archive<'a> {
    /// Reads the directory of the archive.
    ///
    /// # Errors
    /// A sentence: damage.
    pub fn new(bytes: &'a [u8]) -> Result<Archive<'a>, String> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        let mut names = Vec::new();
        for file in zip.file_names() {
            names.extend(file.map_err(damaged)?.strip_suffix(SUFFIX).map(str::to_string));
        }
        Ok(Archive { zip, names })
    }

    /// The names of all arrays, in the order of the archive.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// One array.
    ///
    /// # Errors
    /// A sentence: no array of that name, damage, or an element type that no model has.
    pub fn get(&mut self, name: &str) -> Result<HostTensor, String> {
        let entry = self.zip.by_name(&format!("{name}{SUFFIX}")).map_err(damaged)?;
        let mut member = Vec::new();
        // What unpacks to more than it says is cut off, and then too short for its shape or of a wrong checksum.
        let size = entry.size();
        entry.take(size).read_to_end(&mut member).map_err(damaged)?;
        npy::read(&member)
    }
}

/// The bytes of an uncompressed `.npz` file. It holds no time of writing: equal arrays are equal files.
///
/// # Errors
/// A sentence: more than a zip archive can hold.
pub fn write(arrays: &[(String, HostTensor)]) -> Result<Vec<u8>, String> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        let bytes = npy::write(tensor);
        let options = options.large_file(bytes.len() > u32::MAX as usize);
        zip.start_file(format!("{name}{SUFFIX}"), options).map_err(|e| e.to_string())?;
        zip.write_all(&bytes).map_err(|e| e.to_string())?;
    }
    zip.finish().map(Cursor::into_inner).map_err(|e| e.to_string())
}

fn damaged(e: impl std::fmt::Display) -> String {
    format!("the .npz file is damaged: {e}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn archives_hold_no_time_of_writing() {
        let bytes = write(&[("y".into(), HostTensor::f32([2], vec![1.0, 2.0]))]).unwrap();
        let mut archive = Archive::new(&bytes).unwrap();
        assert_eq!(archive.get("y").unwrap().as_f32(), Some(&[1.0, 2.0][..]));
        let written = archive.zip.by_index(0).unwrap().last_modified().unwrap();
        assert_eq!((written.datepart(), written.timepart()), (DateTime::default().datepart(), 0));
    }

    #[test]
    fn deflated_members_are_read() {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("x.npy", options).unwrap();
        let tensor = HostTensor::f32([300], vec![0.5; 300]);
        zip.write_all(&npy::write(&tensor)).unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        assert!(bytes.len() < 600);
        assert_eq!(crate::parse(&bytes).unwrap(), [(Some("x".to_string()), tensor)]);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(crate::parse(b"PK\x03\x04").is_err() && crate::parse(b"").is_err());
        let bytes = write(&[("y".into(), HostTensor::f32([2], vec![1.0, 2.0]))]).unwrap();
        assert!(Archive::new(&bytes).unwrap().get("z").is_err());
        for cut in 0..bytes.len() {
            assert!(crate::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
