//! The fuzzer's corpus, run as a plain test.

use std::path::Path;

use escrowmq::protocol::stomp::fuzz::fuzz_stomp;
use escrowmq::session::stomp::fuzz::fuzz_stomp_session;

#[test]
fn every_file_of_the_fuzz_corpus_keeps_the_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/stomp_decode");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the source") {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let data = std::fs::read(&path).unwrap();
        fuzz_stomp(&data);
        fuzz_stomp_session(&data);
        files += 1;
    }
    assert!(files >= 20, "{files} files in {}", folder.display());
}
