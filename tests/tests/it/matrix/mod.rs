//! The compatibility matrix: every feature, between every two protocols, asked by clients that share no code with the
//! product. Writes `docs/compatibility.md` with `MEZU_WRITE_DOCS=1`, and fails otherwise if the page is not what was seen.
//!
//! One node, one workload and a project with a warpgate for each upstream protocol serve all cells; cells run beside
//! one another, the heavy ones alone at the end.

mod by_curl;
mod by_others;
mod scene;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mezusphere_tests::clients::{Place, Talk};
use mezusphere_tests::matrix::{CLIENTS, Matrix, UPSTREAMS, no_such_thing};
use mezusphere_tests::workload::{End, Workload};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use scene::Scene;

/// Clients at once: more only wait for the two cores that CI has.
const AT_ONCE: usize = 4;

/// When the upstream must know of a client that left (design, "faithful failure").
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// A cell: what the client and what the upstream speaks.
type Cell = (&'static str, &'static str);

/// What an asker found, row by row.
type Found = Vec<(String, Result<(), String>)>;

fn cells() -> impl Iterator<Item = Cell> {
    CLIENTS.iter().flat_map(|(client, _)| UPSTREAMS.iter().map(move |(upstream, _)| (*client, *upstream)))
}

/// Everything one asker says of a cell, filed; rows that are no such thing are left out.
fn file(matrix: &mut Matrix, cell: Cell, asker: &'static str, found: Found) {
    for (row, outcome) in found {
        if no_such_thing(&row, cell.0, cell.1).is_none() {
            matrix.file(&row, cell, asker, outcome);
        }
    }
}

/// All that is asked of one cell beside the others.
async fn light(scene: Arc<Scene>, cell: Cell) -> Result<Matrix> {
    let mut matrix = Matrix::default();
    let place = scene.place(cell.1);
    if let Err(why) = scene.gate(cell.1) {
        let found = by_others::rows(cell.0).iter().map(|row| ((*row).to_owned(), Err(why.clone()))).collect();
        file(&mut matrix, cell, by_others::name(cell.0), found);
    } else {
        file(&mut matrix, cell, by_others::name(cell.0), by_others::features(&scene, &place, cell).await?);
        if cell.0 != "h3" {
            file(&mut matrix, cell, "curl", by_curl::features(&scene, &place, cell).await);
        }
        if cell.0 == "h1" {
            file(&mut matrix, cell, "websockets", by_others::websocket(&place).await?);
        }
        if cell.0 == "h2" {
            file(&mut matrix, cell, "chromium", by_others::chromium(&place, cell).await?);
        }
    }
    if let Some(grpc) = scene.grpc(cell.1) {
        match grpc {
            Err(why) => {
                let found = by_others::GRPC.iter().map(|row| ((*row).to_owned(), Err(why.clone()))).collect();
                let asker = if cell.0 == "h2" { "grpcio" } else { by_others::name(cell.0) };
                let found: Found = found;
                let rows = found.into_iter().filter(|(row, _)| cell.0 == "h2" || row == "grpc_unary");
                file(&mut matrix, cell, asker, rows.collect());
            }
            Ok(place) if cell.0 == "h2" => {
                file(&mut matrix, cell, "grpcio", by_others::grpc(&place, cell).await?);
            }
            Ok(place) => {
                let found = by_others::ask(&scene, &place, cell, &["grpc_unary"]).await?;
                file(&mut matrix, cell, by_others::name(cell.0), found);
            }
        }
    }
    Ok(matrix)
}

/// What is asked of one cell while nothing else runs.
async fn heavy(scene: &Scene, cell: Cell) -> Result<Matrix> {
    let mut matrix = Matrix::default();
    let place = scene.place(cell.1);
    let failed =
        |why: &String| vec![("large".to_owned(), Err(why.clone())), ("many".to_owned(), Err(why.clone()))];
    match (scene.gate(cell.1), cell.0) {
        (Err(why), "h3") => file(&mut matrix, cell, "aioquic", failed(why)),
        (Err(why), _) => file(&mut matrix, cell, "curl", failed(why)),
        (Ok(()), "h3") => {
            file(
                &mut matrix,
                cell,
                "aioquic",
                by_others::ask(scene, &place, cell, &["large", "many"]).await?,
            );
        }
        (Ok(()), _) => {
            file(&mut matrix, cell, "curl", by_curl::large(scene, &place, cell).await);
            file(&mut matrix, cell, "h2load", by_curl::many(&place, cell).await);
        }
    }
    Ok(matrix)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_compatibility_page_says_is_what_is_seen() -> Result<()> {
    let scene = Arc::new(Scene::set().await?);
    let mut matrix = Matrix::default();

    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for cell in cells() {
        let (scene, turns) = (Arc::clone(&scene), Arc::clone(&turns));
        asked.spawn(async move {
            let _turn = turns.acquire().await?;
            anyhow::Ok((cell, light(scene, cell).await?))
        });
    }
    let start = Instant::now();
    while let Some(found) = asked.join_next().await {
        let (cell, found) = found??;
        println!("{} → {} after {:?}: {:?}", cell.0, cell.1, start.elapsed(), found.failures());
        matrix.merge(found);
    }
    for cell in cells() {
        let found = heavy(&scene, cell).await?;
        println!("{} → {}, heavy, after {:?}: {:?}", cell.0, cell.1, start.elapsed(), found.failures());
        matrix.merge(found);
    }
    scene.nothing_advertises_what_is_not_there().await?;

    let page = matrix.render();
    println!("{page}\n{}", matrix.failures().join("\n"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    if std::env::var_os("MEZU_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page)?;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let difference: Vec<String> = similar(&kept, &page);
    assert!(
        difference.is_empty(),
        "docs/compatibility.md is not what is seen (MEZU_WRITE_DOCS=1 renews it):\n{}\n{}",
        difference.join("\n"),
        matrix.failures().join("\n")
    );
    Ok(())
}

/// Lines that are in one text and not in the other.
fn similar(kept: &str, seen: &str) -> Vec<String> {
    let gone =
        kept.lines().filter(|line| !seen.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new =
        seen.lines().filter(|line| !kept.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// What a client cannot know: how its leaving looked at the workload.
struct Judge<'a> {
    workload: &'a Workload,
    tag: &'a str,
}

impl Judge<'_> {
    async fn judge(&self, row: &str) -> Result<(), String> {
        let (path, wanted) = match row {
            "leaves" => (format!("/hang/leaves-{}", self.tag), End::Cancelled),
            "leaves_early" => (format!("/hang-head/early-{}", self.tag), End::Cancelled),
            _ => (format!("/sink/cut-upload-{}", self.tag), End::BodyCut),
        };
        match self.workload.ended(&path, LEFT_WITHIN).await {
            Ok(record) if record.end == wanted => Ok(()),
            Ok(record) => Err(format!("the upstream saw {:?}", record.end)),
            Err(why) => Err(format!("{why:#}")),
        }
    }
}

/// Reads a client to its end. When it says that it has left, the judge looks.
async fn listen(mut talk: Talk, judge: Option<Judge<'_>>) -> Result<Found> {
    let mut found: Found = Vec::new();
    let mut judged: Vec<(String, Result<(), String>)> = Vec::new();
    while let Some(said) = talk.next().await? {
        if said.event == "done" {
            let own = if said.ok { Ok(()) } else { Err(said.why) };
            let by_us = judged
                .iter()
                .find(|(row, _)| *row == said.feature)
                .map_or(Ok(()), |(_, judged)| judged.clone());
            found.push((said.feature, own.and(by_us)));
        } else if let Some(judge) = &judge {
            let outcome = judge.judge(&said.feature).await;
            judged.push((said.feature, outcome));
        }
    }
    Ok(found)
}

/// What is unique to an asker and a cell.
fn tag(asker: &str, cell: Cell, place: &Place) -> String {
    format!("{asker}-{}-{}-{}", cell.0, cell.1, place.port)
}
