//! Packs, objects and requests made by hand, so that they can be wrong.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

pub const NONE: &str = "0000000000000000000000000000000000000000";
pub const COMMIT: u8 = 1;
pub const TREE: u8 = 2;
pub const BLOB: u8 = 3;
pub const TAG: u8 = 4;
pub const OFS_DELTA: u8 = 6;
pub const REF_DELTA: u8 = 7;

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("deflated");
    out.finish().expect("deflated")
}

/// The id of an object.
pub fn id(kind: u8, data: &[u8]) -> String {
    let name = match kind {
        COMMIT => "commit",
        TREE => "tree",
        TAG => "tag",
        _ => "blob",
    };
    hex(&sha1(&[format!("{name} {}\0", data.len()).as_bytes(), data].concat()))
}

/// The header of an entry of a pack.
pub fn head(kind: u8, mut size: u64) -> Vec<u8> {
    let mut out = vec![(kind << 4) | (size & 15) as u8];
    size >>= 4;
    while size > 0 {
        *out.last_mut().expect("a byte") |= 0x80;
        out.push((size & 0x7f) as u8);
        size >>= 7;
    }
    out
}

pub fn entry(kind: u8, data: &[u8]) -> Vec<u8> {
    [head(kind, data.len() as u64), deflate(data)].concat()
}

/// A blob of so many megabytes of zeros, in about a thousandth of them: the same compressed megabyte time and again.
pub fn zeros(megabytes: usize) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut one = Vec::with_capacity(1 << 16);
    compress.compress_vec(&vec![0; 1 << 20], &mut one, flate2::FlushCompress::Full).expect("deflated");
    let size = (megabytes as u64) << 20;
    // zlib's head; the megabytes; an empty last block; the sum that so many zeros have.
    let sum = (u32::try_from(size % 65_521).expect("small") << 16) | 1;
    let data =
        [vec![0x78, 0x01], one.repeat(megabytes), vec![1, 0, 0, 0xff, 0xff], sum.to_be_bytes().to_vec()].concat();
    [head(BLOB, size), data].concat()
}

/// How far back the base of an ofs-delta lies, as packs write it.
pub fn back(mut offset: u64) -> Vec<u8> {
    let mut out = vec![(offset & 0x7f) as u8];
    while offset >> 7 > 0 {
        offset = (offset >> 7) - 1;
        out.insert(0, 0x80 | (offset & 0x7f) as u8);
    }
    out
}

/// A pack of entries; says that it has `count`.
pub fn pack(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&count.to_be_bytes());
    out.extend(entries.iter().flatten());
    let sum = sha1(&out);
    out.extend(sum);
    out
}

pub fn tree(entries: &[(&str, &[u8], &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (mode, name, id) in entries {
        out.extend_from_slice(format!("{mode} ").as_bytes());
        out.extend_from_slice(name);
        out.push(0);
        let raw = (0..20).map(|n| u8::from_str_radix(&id[n * 2..n * 2 + 2], 16).expect("hex"));
        out.extend(raw);
    }
    out
}

pub fn commit(tree: &str, when: &str, message: &str) -> Vec<u8> {
    let who = format!("Someone <someone@example.com> {when}");
    format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n{message}\n").into_bytes()
}

/// A commit with one file, which is this entry of a pack and has this id, and the pack.
pub fn one_file(name: &[u8], blob: Vec<u8>, blob_id: &str, when: &str) -> (String, Vec<u8>) {
    let tree_bytes = tree(&[("100644", name, blob_id)]);
    let commit_bytes = commit(&id(TREE, &tree_bytes), when, "x");
    let entries = [blob, entry(TREE, &tree_bytes), entry(COMMIT, &commit_bytes)];
    (id(COMMIT, &commit_bytes), pack(3, &entries))
}

/// The objects of one commit, and its id.
pub struct History {
    pub entries: Vec<Vec<u8>>,
    pub tip: String,
    pub tree: String,
}

/// A commit with a Procfile and these files: mode, name, content.
pub fn history(files: &[(&str, &[u8], &[u8])], when: &str, message: &str) -> History {
    let procfile = b"worker: run\n".as_slice();
    let mut all = vec![("100644", b"Procfile".as_slice(), procfile)];
    all.extend(files);
    all.sort_by(|a, b| a.1.cmp(b.1));
    let mut entries: Vec<Vec<u8>> = all.iter().map(|(_, _, content)| entry(BLOB, content)).collect();
    let ids: Vec<String> = all.iter().map(|(_, _, content)| id(BLOB, content)).collect();
    let listed: Vec<_> = all.iter().zip(&ids).map(|((mode, name, _), id)| (*mode, *name, id.as_str())).collect();
    let tree_bytes = tree(&listed);
    let tree_id = id(TREE, &tree_bytes);
    let commit_bytes = commit(&tree_id, when, message);
    entries.push(entry(TREE, &tree_bytes));
    entries.push(entry(COMMIT, &commit_bytes));
    History { tip: id(COMMIT, &commit_bytes), entries, tree: tree_id }
}

impl History {
    pub fn pack(&self) -> Vec<u8> {
        pack(u32::try_from(self.entries.len()).expect("few"), &self.entries)
    }
}

pub fn line(payload: impl AsRef<[u8]>) -> Vec<u8> {
    [format!("{:04x}", payload.as_ref().len() + 4).as_bytes(), payload.as_ref()].concat()
}

pub const CAPABILITIES: &str = "report-status side-band-64k agent=test/1";

/// A push: lines, a flush and a pack. The first line gets the capabilities.
pub fn push(commands: &[(&str, &str, &[u8])], capabilities: &str, pack: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, (old, new, name)) in commands.iter().enumerate() {
        let mut command = [format!("{old} {new} ").as_bytes(), name].concat();
        if n == 0 {
            command.push(0);
            command.extend_from_slice(capabilities.as_bytes());
        }
        out.extend(line(&command));
    }
    out.extend_from_slice(b"0000");
    out.extend_from_slice(pack);
    out
}
