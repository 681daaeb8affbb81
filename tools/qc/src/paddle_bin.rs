//! Paddle's binary form of labelled pictures: how many there are, all pictures, all classes.
//!
//! ```text
//! i64           n
//! f32           n pictures of 3 x side x side numbers, channels first
//! i64           n classes
//! ```
//!
//! All little endian. Paddle's own tool leaves a hole of zeros where a picture's file was missing, and counts it.

use crate::failure::{Failure, IO, Outcome};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is said of a damaged file.
const REMEDY: &str = "make it again with `qc data convert`";

/// A file that is read picture by picture.
pub struct PaddleBin {
    path: PathBuf,
    file: File,
    /// Pictures.
    pub count: usize,
    /// Numbers of a picture.
    pub values: usize,
}

/// Whether a path is called like such a file.
pub fn is_named_bin(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "bin")
}

impl PaddleBin {
    /// Opens a file and compares its size with its count.
    ///
    /// # Errors
    /// I/O, no pictures, or a size that is not that of as many pictures.
    pub fn open(path: &Path) -> Outcome<PaddleBin> {
        let io = |e: std::io::Error| Failure::io(path, &e);
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let bad = |text: String| Failure::content(path, format!("{text}; {REMEDY}"));
        if bytes < 8 {
            return Err(bad(format!("{bytes} bytes hold no count of pictures")));
        }
        let mut head = [0; 8];
        file.read_exact_at(&mut head, 0).map_err(io)?;
        let count = i64::from_le_bytes(head);
        let Some(n) = u64::try_from(count).ok().filter(|n| *n > 0) else {
            return Err(bad(format!("the count of pictures is {count}")));
        };
        let rest = bytes - 8;
        let each = rest / n;
        if !rest.is_multiple_of(n) || each < 12 || !each.is_multiple_of(4) {
            let text = format!("{count} pictures of one size do not take its {bytes} bytes");
            let whole = 8 + n.saturating_mul(3 * 224 * 224 * 4 + 8);
            return Err(bad(format!("{text} (of 3 x 224 x 224 they take {whole}): it is cut off or no such file")));
        }
        Ok(PaddleBin { path: path.into(), file, count: n as usize, values: (each - 8) as usize / 4 })
    }

    /// Rows and columns of a picture of three channels, if it is a square.
    pub fn side(&self) -> Option<usize> {
        let side = (self.values / 3).isqrt();
        (3 * side * side == self.values).then_some(side)
    }

    /// The shape of a picture.
    ///
    /// # Errors
    /// When it is no square.
    pub fn dims(&self) -> Outcome<[usize; 3]> {
        let text = || format!("its pictures have {} numbers, which are no 3 x D x D; {REMEDY}", self.values);
        self.side().map(|side| [3, side, side]).ok_or_else(|| Failure::content(&self.path, text()))
    }

    /// All classes.
    ///
    /// # Errors
    /// I/O.
    pub fn labels(&self) -> Outcome<Vec<i64>> {
        let mut bytes = vec![0; 8 * self.count];
        let at = 8 + (self.count * self.values * 4) as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Failure::io(&self.path, &e))?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
    }

    /// Reads picture `i` as it is.
    ///
    /// # Errors
    /// I/O.
    pub fn read(&self, i: usize, out: &mut [f32]) -> Outcome {
        let mut bytes = vec![0; 4 * self.values];
        let at = 8 + (i * self.values * 4) as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|e| Failure::io(&self.path, &e))?;
        let (words, _) = bytes.as_chunks::<4>();
        out.iter_mut().zip(words).for_each(|(to, word)| *to = f32::from_le_bytes(*word));
        Ok(())
    }

    /// Reads picture `i`, which must not be a hole.
    ///
    /// # Errors
    /// I/O, and nothing but zeros.
    pub fn load(&self, i: usize, out: &mut [f32]) -> Outcome {
        self.read(i, out)?;
        match out.iter().all(|x| *x == 0.0) {
            true => Err(self.holes(&[i])),
            false => Ok(()),
        }
    }

    /// The refusal of a file in which these pictures are holes.
    pub fn holes(&self, which: &[usize]) -> Failure {
        let more = if which.len() > 1 { format!(" and {} more", which.len() - 1) } else { String::new() };
        let first = which.first().copied().unwrap_or_default();
        let text = "nothing but zeros: its file was missing when this one was made; get it and make this one again";
        Failure::content(&self.path, format!("picture {first}{more} of {} is {text}", self.count))
    }

    /// Refuses a model that takes pictures of another size.
    ///
    /// # Errors
    /// A sentence with both sizes.
    pub fn fits(&self, input: &qc_runtime::IoInfo) -> Outcome {
        let wanted: usize = input.shape.iter().skip(1).product();
        if wanted == self.values {
            return Ok(());
        }
        let own = self.side().map_or_else(|| format!("{} numbers", self.values), |d| format!("3 x {d} x {d}"));
        let text = format!("its pictures are {own}, input '{}' is {input}", input.name);
        Err(Failure::content(&self.path, format!("{text}; make it again for that size with `qc data convert`")))
    }
}

/// Writes such a file: the count, then pictures as they come, then `labels`.
pub struct Writer<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Writer<'a> {
    /// Begins a file of `count` pictures.
    ///
    /// # Errors
    /// I/O.
    pub fn new(out: &'a mut dyn Write, count: usize) -> std::io::Result<Writer<'a>> {
        out.write_all(&(count as i64).to_le_bytes())?;
        Ok(Writer { out })
    }

    /// The next picture.
    ///
    /// # Errors
    /// I/O.
    pub fn picture(&mut self, values: &[f32]) -> std::io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.out.write_all(&bytes)
    }

    /// The classes, after all pictures.
    ///
    /// # Errors
    /// I/O.
    pub fn labels(self, labels: &[i64]) -> std::io::Result<()> {
        let bytes: Vec<u8> = labels.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.out.write_all(&bytes)
    }
}

/// The failure of writing to a path.
pub fn unwritten(path: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    |e| Failure::new(IO, Failure::io(path, &e).text)
}
