//! The note of a compiled model: what it is, readable without executing anything.
//!
//! `.note.qc` holds two notes of owner `qc`. Type 1 is JSON, [`Note`]. Type 2 is [`Seal`]: two digests that cover every
//! byte of the file, so that a damaged or truncated file is refused before the loader of the system sees it. SHA-256
//! covers everything up to the weights, which is what can do harm, and the second digest; that is XXH3 of 128 bits over
//! pieces of the rest of the file (`digest.rs`). Weights are most of a file, and SHA-256 of them takes longer than a load may take on a CPU without
//! instructions for it. Whoever is in a hurry can leave the second digest unchecked ([`Check::Code`]).
//!
//! The seal guards against accidents, not against people; a `.so` is native code and has to come from a trusted source.

use crate::Elem;
use crate::digest::{Bytes, digest};
use crate::error::LoadError;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{LittleEndian, ReadCache, ReadRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Owner of the notes.
pub const OWNER: &str = "qc";
/// Type of the JSON note.
pub const TYPE_JSON: u32 = 1;
/// Type of the [`Seal`].
pub const TYPE_SEAL: u32 = 2;
/// Size of a seal: covered length, SHA-256, length of the file, XXH3.
pub const SEAL_BYTES: usize = 64;
/// Where the digest is in a seal.
pub const SEAL_DIGEST_OFFSET: u64 = 8;

/// Longest note that is read; a signature with thousands of operations stays far below.
const MAX_NOTE_BYTES: u64 = 64 << 20;

/// Metadata of a compiled model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Version of the binary interface, `qc_embed::abi::ABI_VERSION`.
    pub format: u32,
    /// Name of the model, which is also the prefix of its exported functions.
    pub name: String,
    /// The program that made the file, such as `qc 0.1.0`.
    pub generator: String,
    /// Names of the instruction tiers in the file.
    pub tiers: Vec<String>,
    /// Batch sizes with code of their own, ascending.
    pub batches: Vec<u32>,
    /// Why only the batches with code can be run, each as a whole; none when any batch is dealt out over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_batches: Option<String>,
    /// SHA-256 of the source model in hexadecimal.
    pub model_sha256: String,
    /// Options the model was compiled with, those that differ from the defaults.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Inputs in model order.
    pub inputs: Vec<IoNote>,
    /// Outputs in model order.
    pub outputs: Vec<IoNote>,
    /// What is computed, in order of execution.
    #[serde(default)]
    pub ops: Vec<OpNote>,
    /// Size of the packed weights.
    #[serde(default)]
    pub weights_bytes: u64,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IoNote {
    /// Name in the source model.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Shape of one batch item; the first dimension counts the rows an item has.
    pub shape: Vec<i64>,
    /// Whether the shape depends on the batch.
    pub batched: bool,
    /// Shapes by batch, where the first dimension is not all that depends on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shapes: BTreeMap<u32, Vec<i64>>,
    /// Of a model of several shapes, what `shape` is in each of them, in one order for all inputs and outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Vec<i64>>,
    /// Of an output, how much of it a run fills, if that differs from run to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// Which part of an output a run fills: the first indices of a dim, as many as another output says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The dim.
    pub axis: usize,
    /// The output whose sum is the number of indices.
    pub by: usize,
}

/// One operation: the steps that follow one another for the same source nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpNote {
    /// Names of the source nodes it computes.
    pub name: String,
    /// The operation, such as `quant.conv2d`.
    pub op: String,
    /// The kernel that does most of the work, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Multiply-accumulates for one batch item.
    #[serde(default)]
    pub macs: u64,
    /// How many steps it is.
    #[serde(default = "one")]
    pub steps: u32,
}

fn one() -> u32 {
    1
}

impl Note {
    /// The shapes of the inputs that the model has code for, one text each: `ids [n, 16], mask [n, 16]`. Inputs whose shape
    /// is always the same are left out; none for a model of one shape.
    pub fn shapes(&self) -> Vec<String> {
        let count = self.inputs.iter().map(|io| io.choices.len()).max().unwrap_or(0);
        let one = |i: usize| {
            let open = self.inputs.iter().filter(|io| io.is_open());
            let text = |io: &IoNote| {
                let shape = io.choices.get(i).unwrap_or(&io.shape);
                format!("{} {}", io.name, crate::io::shape_text(shape, io.batched, &[], &[]))
            };
            open.map(text).collect::<Vec<_>>().join(", ")
        };
        (0..count).map(one).collect()
    }

    /// Which batches the model runs, and why no others.
    pub fn runs(&self) -> String {
        let code: Vec<String> = self.batches.iter().map(u32::to_string).collect();
        let code = code.join(", ");
        match &self.whole_batches {
            None => format!("any batch (code for {code})"),
            Some(why) if self.inputs.iter().all(|io| !io.batched) => why.clone(),
            Some(why) => format!("batch {code} only: {why}"),
        }
    }
}

impl IoNote {
    /// Shape as people write it, the batch as `n`: `[n, 3, 224, 224]`.
    pub fn shape_text(&self) -> String {
        let shapes = self.shapes.iter().map(|(batch, shape)| (*batch as usize, &shape[..]));
        crate::io::shape_text(&self.shape, self.batched, &shapes.collect::<Vec<_>>(), &self.choices)
    }

    /// Whether its shape differs between the shapes of the model by more than the batch.
    pub fn is_open(&self) -> bool {
        self.choices.iter().any(|shape| *shape != self.shape)
    }

    /// Elements of one batch item.
    pub fn item_len(&self) -> u64 {
        self.shape.iter().map(|&dim| dim.max(0) as u64).product()
    }
}

/// How much of a file is checked against its digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// All of it.
    #[default]
    All,
    /// Headers, tables and code, but not the weights: a change there changes results only.
    Code,
}

/// Digests of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The first digest covers the file up to here.
    pub covered_bytes: u64,
    /// SHA-256 of the covered bytes, with the bytes of this digest taken as zero.
    pub sha256: [u8; 32],
    /// Length of the file.
    pub file_bytes: u64,
    /// Digest of the file from `covered_bytes` on, XXH3-128 of pieces.
    pub rest_xxh3: u128,
}

impl Seal {
    /// Reads a seal as it is in the note.
    pub fn from_bytes(bytes: &[u8]) -> Option<Seal> {
        let bytes: &[u8; SEAL_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let (covered_bytes, file_bytes) = (word(0)?, word(40)?);
        let sha256 = bytes[8..40].try_into().ok()?;
        let rest_xxh3 = u128::from_le_bytes(bytes[48..].try_into().ok()?);
        Some(Seal { covered_bytes, sha256, file_bytes, rest_xxh3 })
    }

    /// The seal as it is in the note.
    pub fn to_bytes(&self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        bytes[..8].copy_from_slice(&self.covered_bytes.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.sha256);
        bytes[40..48].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[48..].copy_from_slice(&self.rest_xxh3.to_le_bytes());
        bytes
    }

    /// Seals a file: writes the seal at `at`, which lies in the first `covered_bytes` bytes of it.
    ///
    /// # Panics
    /// When it does not.
    pub fn write(file: &mut [u8], at: usize, covered_bytes: usize) {
        let (covered, file_bytes) = (covered_bytes as u64, file.len() as u64);
        let rest = digest(&*file, covered, file_bytes).ok().flatten();
        let rest_xxh3 = rest.expect("memory can be read, and the covered bytes are in the file");
        let mut seal = Seal { covered_bytes: covered, sha256: [0; 32], file_bytes, rest_xxh3 };
        file[at..at + SEAL_BYTES].copy_from_slice(&seal.to_bytes());
        seal.sha256 = Seal::digest(&file[..covered_bytes], at + SEAL_DIGEST_OFFSET as usize);
        file[at..at + SEAL_BYTES].copy_from_slice(&seal.to_bytes());
    }

    /// Computes the digest over `covered`, in which it is itself at `digest_offset`.
    pub fn digest(covered: &[u8], digest_offset: usize) -> [u8; 32] {
        let (before, rest) = covered.split_at(digest_offset.min(covered.len()));
        let mut hash = Sha256::new();
        hash.update(before);
        hash.update([0u8; 32]);
        hash.update(rest.get(32..).unwrap_or(&[]));
        hash.finalize().into()
    }
}

/// What the check of a file found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The metadata.
    pub note: Note,
    /// The digest, which names this very build of the model.
    pub seal: Seal,
}

/// Reads the note of a compiled model at `path` and checks all of the file, without executing anything.
///
/// # Errors
/// When the file cannot be read, is not ours, is damaged, or has a format this version does not know.
pub fn inspect(path: &Path) -> Result<Note, LoadError> {
    check_file(path, Check::All).map(|checked| checked.note)
}

/// As [`inspect`], with the seal, checking as much as is asked for.
///
/// # Errors
/// As [`inspect`].
pub fn check_file(path: &Path, how: Check) -> Result<Checked, LoadError> {
    let (file, checked) = check_code(path)?;
    if how == Check::All {
        check_weights(path, checked.seal, &file, &file)?;
    }
    Ok(checked)
}

/// Checks everything but the weights of the file at `path`, without executing anything; the file stays open.
///
/// # Errors
/// As [`inspect`].
pub(crate) fn check_code(path: &Path) -> Result<(File, Checked), LoadError> {
    let io = |source| LoadError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(LoadError::NotAModel { path: path.into(), reason: "it is not a regular file".into() });
    }
    let checked = check(&ReadCache::new(&file)).map_err(|damage| damage.at(path))?;
    Ok((file, checked))
}

/// Checks the weights of `file`, and all that follows them, as they are in `bytes`.
///
/// # Errors
/// As [`inspect`].
pub(crate) fn check_weights<B: Bytes>(path: &Path, seal: Seal, file: &File, bytes: &B) -> Result<(), LoadError> {
    let io = |source| LoadError::Io { path: path.into(), source };
    let len = file.metadata().map_err(io)?.len();
    check_rest(seal, len, bytes).map_err(io)?.map_err(|damage| damage.at(path))
}

/// Compares the rest of a file of `len` bytes, behind what SHA-256 covers, with its digest.
fn check_rest<B: Bytes + ?Sized>(seal: Seal, len: u64, bytes: &B) -> std::io::Result<Result<(), Damage>> {
    if len > seal.file_bytes {
        return Ok(Err(damaged("it is longer than when it was written")));
    }
    if len < seal.file_bytes {
        return Ok(Err(damaged(SHORTER)));
    }
    Ok(match digest(bytes, seal.covered_bytes, seal.file_bytes)? {
        None => Err(damaged(SHORTER)),
        Some(found) if found != seal.rest_xxh3 => Err(damaged(CHECKSUM)),
        Some(_) => Ok(()),
    })
}

/// Checks the bytes of a compiled model: structure, note, format and seal. Reads only, so any bytes are safe.
///
/// # Errors
/// As [`inspect`], with an empty path.
pub fn check_bytes(bytes: &[u8]) -> Result<Checked, LoadError> {
    let checked = check(bytes).map_err(|damage| damage.at(Path::new("")))?;
    let same = check_rest(checked.seal, bytes.len() as u64, bytes);
    let same = same.unwrap_or_else(|e| Err(Damage::Damaged(e.to_string())));
    same.map_err(|damage| damage.at(Path::new("")))?;
    Ok(checked)
}

/// Why bytes are not a usable model.
enum Damage {
    NotAModel(&'static str),
    Damaged(String),
    Format(u32),
}

impl Damage {
    fn at(self, path: &Path) -> LoadError {
        let path = path.into();
        match self {
            Damage::NotAModel(reason) => LoadError::NotAModel { path, reason: reason.into() },
            Damage::Damaged(reason) => LoadError::Damaged { path, reason },
            Damage::Format(found) => LoadError::Format { path, found, known: qc_embed::abi::ABI_VERSION },
        }
    }
}

fn damaged(reason: &str) -> Damage {
    Damage::Damaged(reason.into())
}

const SHORTER: &str = "it is shorter than when it was written";
const CHECKSUM: &str = "its checksum does not match its contents";

fn check<'d, R: ReadRef<'d>>(data: R) -> Result<Checked, Damage> {
    let not_elf = |_| Damage::NotAModel("it is not a 64-bit ELF file");
    let header = FileHeader64::<LittleEndian>::parse(data).map_err(not_elf)?;
    let endian = header.endian().map_err(not_elf)?;
    if header.e_type.get(endian) != elf::ET_DYN || header.e_machine.get(endian) != elf::EM_X86_64 {
        return Err(Damage::NotAModel("it is not an x86-64 shared object"));
    }
    let segments = header.program_headers(endian, data).map_err(|_| damaged("its program headers lie outside"))?;
    let mut notes = Notes::default();
    let mut is_ours = false;
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_NOTE) {
        is_ours |= notes.read(segment, endian, data)?;
    }
    if !is_ours {
        return Err(Damage::NotAModel("it has no .note.qc; only files made by `qc compile` can be loaded"));
    }
    let (Some(json), Some((seal, seal_offset))) = (notes.json, notes.seal) else {
        return Err(damaged("a part of its note is missing"));
    };
    // The format comes before the seal: another version may seal in another way.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let format: Format = serde_json::from_slice(&json).map_err(|e| Damage::Damaged(format!("its note: {e}")))?;
    if format.format != qc_embed::abi::ABI_VERSION {
        return Err(Damage::Format(format.format));
    }
    let seal = Seal::from_bytes(&seal).ok_or_else(|| damaged("its seal has a wrong size"))?;
    check_seal(data, seal, seal_offset + SEAL_DIGEST_OFFSET)?;
    check_segments(segments, endian, data, seal)?;
    let note = serde_json::from_slice(&json).map_err(|e| Damage::Damaged(format!("its note: {e}")))?;
    Ok(Checked { note, seal })
}

/// The notes of a file.
#[derive(Default)]
struct Notes {
    json: Option<Vec<u8>>,
    /// The bytes of the seal and where they are in the file.
    seal: Option<(Vec<u8>, u64)>,
}

impl Notes {
    /// Reads a note segment; true if a note in it is ours.
    fn read<'d, R: ReadRef<'d>>(
        &mut self,
        segment: &ProgramHeader64<LittleEndian>,
        endian: LittleEndian,
        data: R,
    ) -> Result<bool, Damage> {
        if segment.p_filesz(endian) > MAX_NOTE_BYTES {
            return Err(damaged("its note is impossibly long"));
        }
        let outside = |_| damaged("its note lies outside");
        let bytes = segment.data(endian, data).map_err(|()| damaged("its note lies outside"))?;
        let Some(mut notes) = segment.notes(endian, data).map_err(outside)? else { return Ok(false) };
        let mut is_ours = false;
        while let Some(note) = notes.next().map_err(outside)? {
            if note.name() != OWNER.as_bytes() {
                continue;
            }
            is_ours = true;
            let desc = note.desc();
            match note.n_type(endian).0 {
                TYPE_JSON => self.json = Some(desc.to_vec()),
                TYPE_SEAL => {
                    // Both slices are views of the same segment.
                    let in_segment = (desc.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize);
                    let in_segment = in_segment.filter(|&at| at < bytes.len());
                    let at = in_segment.ok_or_else(|| damaged("its seal lies outside"))? as u64;
                    self.seal = Some((desc.to_vec(), segment.p_offset(endian) + at));
                }
                _ => {}
            }
        }
        Ok(is_ours)
    }
}

fn check_seal<'d, R: ReadRef<'d>>(data: R, seal: Seal, digest_offset: u64) -> Result<(), Damage> {
    let truncated = || damaged(SHORTER);
    let covered = data.read_bytes_at(0, seal.covered_bytes).map_err(|()| truncated())?;
    if Seal::digest(covered, digest_offset as usize) != seal.sha256 {
        return Err(damaged(CHECKSUM));
    }
    if seal.covered_bytes > seal.file_bytes {
        return Err(damaged("its seal covers more than the file"));
    }
    Ok(())
}

/// Everything that is loaded is in the file: a page beyond its end would end the process when touched.
fn check_segments<'d, R: ReadRef<'d>>(
    segments: &[ProgramHeader64<LittleEndian>],
    endian: LittleEndian,
    data: R,
    seal: Seal,
) -> Result<(), Damage> {
    let len = data.len().map_err(|()| damaged("its length is unknown"))?;
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        let (offset, bytes) = segment.file_range(endian);
        if offset.checked_add(bytes).is_none_or(|end| end > len) {
            return Err(damaged(SHORTER));
        }
        let writable_code = elf::PF_W | elf::PF_X;
        if segment.p_flags(endian) & writable_code == writable_code {
            return Err(damaged("it has memory that is both writable and executable"));
        }
        if offset + bytes > seal.covered_bytes && segment.p_flags(endian) != elf::PF_R {
            return Err(damaged("its checksum does not cover its code"));
        }
    }
    Ok(())
}
