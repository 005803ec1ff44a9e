//! Replays what a real API server answered, step by step in order, against one server. No step is left out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod replay;

use std::path::Path;

use serde_json::Value;

#[tokio::test]
async fn every_transcript_is_answered_alike() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 14, "the transcripts in {}", directory.display());
    let mut replay = replay::Replay::start().await;
    let mut failures = Vec::new();
    let mut steps = 0;
    for file in files {
        let transcript: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let scenario = transcript["scenario"].as_str().unwrap();
        for step in transcript["steps"].as_array().unwrap() {
            steps += 1;
            if let Err(problem) = replay.step(scenario, step).await {
                failures.push(format!("{scenario} / {}: {problem}", step["name"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(steps, 173, "steps in all transcripts");
    assert!(failures.is_empty(), "{} steps differ:\n{}", failures.len(), failures.join("\n"));
    replay.stop().await;
}
