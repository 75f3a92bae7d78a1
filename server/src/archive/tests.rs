//! Archives that nobody would make by mistake.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// One header and its bytes, with whatever the test wants in it.
fn raw(path: &[u8], kind: u8, mode: u32, target: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    raw(path.as_bytes(), b'0', 0o644, b"", content)
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        content.extend_from_slice(format!("{len} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    raw(b"pax", b'x', 0o644, b"", &content)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn tgz(entries: &[Vec<u8>]) -> Vec<u8> {
    gz(&[entries.concat(), vec![0; 1024]].concat())
}

fn run(archive: &[u8]) -> Result<Vec<(String, String)>, String> {
    run_with(archive, None, 1024 * 1024, 1000)
}

/// Path and content (or `-> target`, or `/`) of what comes out.
fn run_with(archive: &[u8], sum: Option<&str>, max: u64, entries: usize) -> Result<Vec<(String, String)>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, into) = (folder.path().join("a.tgz"), folder.path().join("a.tar"));
    std::fs::write(&from, archive).expect("written");
    match convert(&from, &into, sum, max, entries) {
        Err(ArchiveError::Bad(why)) => return Err(why),
        other => other.expect("the disk works"),
    }
    let mut out = Vec::new();
    for entry in Archive::new(File::open(&into).expect("there")).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mode = entry.header().mode().expect("a mode");
        assert_eq!(mode & !0o777, 0, "{path} has special bits");
        let shown = match entry.header().entry_type() {
            EntryType::Directory => "/".to_owned(),
            EntryType::Symlink => {
                format!("-> {}", String::from_utf8_lossy(&entry.link_name_bytes().expect("a target")))
            }
            _ => {
                let mut content = String::new();
                entry.read_to_string(&mut content).expect("text");
                content
            }
        };
        out.push((path, shown));
    }
    Ok(out)
}

#[test]
fn keeps_what_a_source_has() {
    let archive = tgz(&[
        raw(b"pax_global_header", b'g', 0o644, b"", b"19 comment=0123456\n\n"),
        raw(b"./", b'5', 0o755, b"", b""),
        raw(b"./bin/", b'5', 0o7777, b"", b""),
        raw(b"./bin/run", b'0', 0o6755, b"", b"run"),
        raw(b"link", b'2', 0o777, b"bin/run", b""),
        raw(b"hard", b'1', 0o644, b"./bin/run", b""),
        file("bin/run", b"run again"),
        file("README", b"a"),
        file("readme", b"b"),
        file(".git/config", b"[core]"),
        file("sub/.git/hooks/x", b"evil"),
        raw(b"caf\xe9", b'0', 0o644, b"", b"latin"),
        pax(&[(
            "path",
            &[b'n'; 300].iter().enumerate().map(|(i, c)| if i == 150 { b'/' } else { *c }).collect::<Vec<u8>>(),
        )]),
        file("short", b"long"),
    ]);
    let got = run(&archive).expect("good");
    let names: Vec<&str> = got.iter().map(|(name, _)| name.as_str()).collect();
    let long = format!("{}/{}", "n".repeat(150), "n".repeat(149));
    assert_eq!(names, ["bin", "bin/run", "link", "hard", "bin/run", "README", "readme", "caf\u{fffd}", &long]);
    assert_eq!(got[2].1, "-> bin/run");
    assert_eq!((got[3].1.as_str(), got[4].1.as_str()), ("run", "run again"), "a hard link is a file of its own");
}

#[test]
fn refuses_what_is_no_archive() {
    let good = tgz(&[file("a", &[7; 5000])]);
    assert!(run(b"").is_err());
    assert!(run(b"not gzip at all").is_err());
    assert!(run(&[file("a", b"x"), vec![0; 1024]].concat()).is_err(), "not compressed");
    assert!(run(&good[..good.len() / 2]).is_err());
    assert!(run(&good[..good.len() - 4]).is_err());
    let mut crc = good.clone();
    let at = crc.len() - 8;
    crc[at] ^= 1;
    assert!(run(&crc).is_err());
    assert!(run(&gz(&[9; 4096])).is_err());
    assert_eq!(run(&tgz(&[raw(b"./", b'5', 0o755, b"", b"")])), Err("it holds no file".to_owned()));
    let sum = HEXLOWER.encode(aws_lc_rs::digest::digest(&SHA256, &good).as_ref());
    assert!(run_with(&good, Some(&sum), 1 << 20, 9).is_ok());
    assert!(run_with(&good, Some(&"0".repeat(64)), 1 << 20, 9).is_err());
}

#[test]
fn refuses_what_leads_outside() {
    let link = raw(b"l", b'2', 0o777, b"/tmp", b"");
    let folder = |path: &[u8]| raw(path, b'5', 0o755, b"", b"");
    for (what, entries) in [
        ("dots", vec![file("a/../../x", b"")]),
        ("absolute", vec![file("/etc/passwd", b"")]),
        ("below a link", vec![link.clone(), file("l/x", b"")]),
        ("over a link", vec![link.clone(), file("l", b"")]),
        ("folder over a link", vec![link.clone(), folder(b"l")]),
        ("link over a folder", vec![file("l/x", b""), link.clone()]),
        ("below a file", vec![file("f", b""), file("f/x", b"")]),
        ("hard link outside", vec![raw(b"h", b'1', 0o644, b"/etc/passwd", b"")]),
        ("hard link to nothing", vec![raw(b"h", b'1', 0o644, b"later", b""), file("later", b"")]),
        ("hard link through a link", vec![link.clone(), raw(b"h", b'1', 0o644, b"l/x", b"")]),
        ("device", vec![raw(b"d", b'3', 0o644, b"", b"")]),
        ("block device", vec![raw(b"d", b'4', 0o644, b"", b"")]),
        ("fifo", vec![raw(b"d", b'6', 0o644, b"", b"")]),
        ("old sparse", vec![raw(b"s", b'S', 0o644, b"", b"")]),
        (
            "sparse",
            vec![pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.size", b"9223372036854775807")]), file("s", b"")],
        ),
        ("two sizes", vec![pax(&[("size", b"0")]), file("a", b"twelve bytes"), file("b", b"")]),
        ("null", vec![pax(&[("path", b"a\0b")]), file("a", b"")]),
        ("newline", vec![pax(&[("path", b"a\nb")]), file("a", b"")]),
        ("deep", vec![pax(&[("path", "d/".repeat(2000).as_bytes())]), file("a", b"")]),
        ("too long", vec![pax(&[("path", "d".repeat(5000).as_bytes())]), file("a", b"")]),
    ] {
        assert!(run(&tgz(&entries)).is_err(), "{what}");
    }
}

#[test]
fn stops_at_its_limits() {
    assert!(run_with(&tgz(&[file("a", &vec![0; 100_000])]), None, 50_000, 9).is_err());
    assert!(run_with(&tgz(&vec![file("a", b""); 20]), None, 1 << 20, 9).is_err());
    assert!(run_with(&gz(&vec![0; 10_000_000]), None, 1 << 20, 9).is_err(), "zeros behind the end count too");
    let mut entries = vec![file("a", &[1; 10_000])];
    entries.extend((0..200).map(|i| raw(format!("h{i}").as_bytes(), b'1', 0o644, b"a", b"")));
    assert!(run(&tgz(&entries)).is_err(), "hard links multiply");
}
