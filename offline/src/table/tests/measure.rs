use super::*;
use crate::table::compact::CompactOptions;
use std::time::Instant;
#[tokio::test]
#[ignore = "measures"]
async fn measure() {
    let n: i64 = std::env::var("COMMITS").unwrap().parse().unwrap();
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let begun = Instant::now();
    let mut last = Instant::now();
    for c in 0..n {
        let batches: Vec<_> =
            (0..12).map(|l| rows(&table, Log(l), &(c * 10..c * 10 + 10).collect::<Vec<_>>())).collect();
        let from = (0..12).map(|l| (Log(l), Position(c * 10))).collect();
        let to = (0..12).map(|l| (Log(l), Position(c * 10 + 10))).collect();
        table.append(&batches, &from, &to).await.unwrap();
        if c % 250 == 249 {
            println!("{c}: {:?} per append", last.elapsed() / 250);
            last = Instant::now();
        }
    }
    println!("{n} commits in {:?}", begun.elapsed());
    for _ in 0..2 {
        let at = Instant::now();
        let t2 = open(&folder, &payments()).await.unwrap();
        println!("open {:?}", at.elapsed());
        let at = Instant::now();
        t2.files().unwrap();
        println!("files {:?}", at.elapsed());
        let at = Instant::now();
        t2.log_statistics().await.unwrap();
        println!("log_statistics {:?}", at.elapsed());
        let at = Instant::now();
        println!("recent {:?}", t2.recent(Time::MIN).await.unwrap().len());
        println!("recent(all) {:?}", at.elapsed());
        let at = Instant::now();
        table.reload().await.unwrap();
        println!("reload nothing {:?}", at.elapsed());
        let ends = table.positions().clone();
        let from = ends.iter().map(|(l, p)| (*l, Position(p.0 - 5))).collect();
        let at = Instant::now();
        println!("{} rows", offsets(&table, &from, &ends).await.len());
        println!("scan of the tail {:?}", at.elapsed());
        let at = Instant::now();
        println!("{:?}", table.compact(CompactOptions::default()).await.unwrap());
        println!("compact {:?}", at.elapsed());
    }
    let sizes: Vec<_> = fs::read_dir(table.folder().join("_delta_log"))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name().to_string_lossy().contains("checkpoint"))
        .map(|e| (e.file_name(), e.metadata().unwrap().len()))
        .collect();
    println!("{sizes:?}");
}
