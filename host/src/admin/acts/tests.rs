//! Acts whose watcher stands: their answer is there, and nobody reads it.

use futures::FutureExt as _;

use super::*;
use crate::testing::Fast;

/// How long something may take that waits for nobody: less than [`STANDS_MAX`].
const LONG: Duration = Duration::from_secs(20);

/// The lines of an act, which are read once it has ended.
async fn unread(
    stands_max: Duration,
    act: impl FnOnce(Tell<'_>) -> Result<u64, Failure> + Send + 'static,
) -> Vec<Value> {
    let (ended, ends) = tokio::sync::oneshot::channel();
    let ending = watch::channel(false).1;
    let response = told(Arc::new(Fast::default()), stands_max, ending, move |tell| {
        let answer = act(tell);
        ended.send(()).unwrap();
        answer
    });
    let ended = tokio::time::timeout(LONG, ends).await;
    ended.expect("the act stands with its watcher").unwrap();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A request whose body comes in these pieces, and that may say beforehand how long it is.
fn request(announced: Option<usize>, pieces: Vec<Vec<u8>>) -> Request {
    let pieces = pieces.into_iter().map(Ok::<_, std::convert::Infallible>);
    let mut request = Request::new(Body::from_stream(futures::stream::iter(pieces)));
    if let Some(bytes) = announced {
        request.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    }
    request
}

#[tokio::test]
async fn a_body_in_pieces_is_read_whole_and_one_without_an_end_is_refused() {
    for announced in [None, Some(1000)] {
        let read = whole(request(announced, vec![vec![7; 100]; 10])).await.unwrap();
        assert_eq!(&read[..], [7; 1000]);
    }
    let piece = vec![0; BODY_BYTES_MAX / 2 + 1];
    let refused = whole(request(None, vec![piece; 2])).await.unwrap_err();
    assert_eq!(refused.into_response().status(), 413);
}

#[test]
fn the_first_line_of_an_import_stays_where_it_is_up_to_its_bound_and_goes_no_further() {
    let piece = Bytes::from_static(&[b'a'; 128]);
    let mut line = FirstLine::new();
    let place = line.bytes.as_ptr();
    for _ in 0..IMPORT_LINE_BYTES_MAX / piece.len() {
        assert!(line.take(piece.clone()).unwrap().is_empty());
    }
    assert_eq!(line.bytes.len(), IMPORT_LINE_BYTES_MAX);
    for more in ["a", "a\nrest"] {
        let refused = line.take(more.into()).unwrap_err();
        assert_eq!(refused.code, Code::InputTooLarge, "{more}");
    }
    assert!(!line.is_whole);
    assert_eq!(line.take("\nthe\nrest".into()).unwrap(), "the\nrest");
    assert_eq!(line.take("and\nmore".into()).unwrap(), "and\nmore");
    assert!(line.is_whole);
    assert_eq!(line.bytes.len(), IMPORT_LINE_BYTES_MAX);
    assert_eq!(line.bytes.as_ptr(), place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn how_far_an_act_is_that_nobody_reads_is_left_out_and_its_answer_is_not() {
    let lines = unread(STANDS_MAX, |tell| {
        for done in 0..100 {
            tell(ActProgress::Progress { done, total: None })?;
        }
        Ok(7)
    });
    let mut lines = lines.await;
    assert_eq!(lines.pop().unwrap(), json!({ "answer": 7 }));
    let told: Vec<Value> = (0..LINES_MAX)
        .map(|done| json!({ "progress": { "done": done, "total": null } }))
        .collect();
    assert_eq!(lines, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_act_whose_pieces_nobody_takes_is_given_up_and_says_so() {
    let lines = unread(Duration::from_millis(1), |tell| {
        loop {
            tell(ActProgress::Data(vec![0]))?;
        }
    });
    let mut lines = lines.await;
    assert_eq!(lines.pop().unwrap()["error"]["code"], "call.cancelled");
    assert_eq!(lines.len(), LINES_MAX);
    assert!(lines.iter().all(|line| line["data"].is_string()), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_follows_on_a_piece_that_nobody_took() {
    let (sender, mut receiver) = mpsc::channel(1);
    let mut lines = Lines {
        sender: Some(sender),
        stands_max: Duration::ZERO,
        runtime: Handle::current(),
        ending: watch::channel(false).1,
        clock: Arc::new(Fast::default()),
        last: None,
    };
    let told = tokio::task::spawn_blocking(move || {
        let mut piece = || lines.tell(ActProgress::Data(vec![0])).map_err(|failure| failure.code);
        assert_eq!(piece(), Ok(()));
        assert_eq!(piece(), Err(Code::Cancelled));
        receiver.blocking_recv().unwrap();
        assert_eq!(piece(), Err(Code::Cancelled), "there is room again");
        assert!(receiver.blocking_recv().is_none(), "and nothing that would come");
    });
    told.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_act_that_nobody_reads_is_under_way_until_it_has_ended() {
    let (acts, ending) = watch::channel(false);
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let response = told(Arc::new(Fast::default()), STANDS_MAX, ending, move |_tell| {
        is_over.recv().unwrap();
        Ok(7)
    });
    drop(response);
    assert!(acts.closed().now_or_never().is_none());
    over.send(()).unwrap();
    let ended = tokio::time::timeout(LONG, acts.closed()).await;
    ended.expect("it has ended");
}

#[tokio::test]
async fn an_act_hears_that_the_server_ends_also_where_nobody_takes_what_it_makes() {
    let (acts, ending) = watch::channel(false);
    let mut lines = Lines {
        sender: None,
        stands_max: Duration::ZERO,
        runtime: Handle::current(),
        ending,
        clock: Arc::new(Fast::default()),
        last: None,
    };
    let mut tell = || {
        let told = lines.tell(ActProgress::Progress { done: 0, total: None });
        told.map_err(|failure| failure.code)
    };
    assert_eq!(tell(), Err(Code::Cancelled));
    acts.send_replace(true);
    assert_eq!(tell(), Err(Code::Unavailable));
}
