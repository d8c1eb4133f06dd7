//! A service that answers as it is told, byte for byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One answer.
#[derive(Debug, Clone)]
pub enum Say {
    /// These bytes; then the connection ends.
    Text(String),
    /// Nothing, for so long that nobody waits.
    Nothing,
    /// These bytes, and then nothing.
    Stalls(String),
}

/// A status with its body.
pub fn status(status: &str, body: &str) -> Say {
    Say::Text(format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// An error as S3 tells it, with all that it repeats of the request.
pub fn error(number: &str, code: &str) -> Say {
    status(
        number,
        &format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>The service said so.</Message>\
             <CanonicalRequest>x-amz-security-token:{}</CanonicalRequest></Error>",
            crate::TOKEN
        ),
    )
}

/// A running stub.
pub struct Stub {
    pub url: String,
    /// The heads of the requests that came.
    pub asked: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stub {
    /// Gives these answers, one for each request, the last one for all that follow.
    pub async fn start(answers: Vec<Say>) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the stub")]
        let server = tokio::spawn(async move {
            for n in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let say = answers[n.min(answers.len() - 1)].clone();
                let seen = seen.clone();
                #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
                tokio::spawn(async move { drop(answer(stream, say, &seen).await) });
            }
        });
        Stub { url, asked, server }
    }

    pub fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn answer(mut stream: TcpStream, say: Say, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut text = Vec::new();
    let head = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await?;
        text.extend_from_slice(&piece[..read]);
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if read == 0 {
            return Ok(());
        }
    };
    let request = String::from_utf8_lossy(&text[..head]).to_lowercase();
    let length = request.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut missing = length.unwrap_or(0_usize).saturating_sub(text.len() - head);
    while missing > 0 {
        let mut piece = vec![0; missing.min(65536)];
        missing -= stream.read(&mut piece).await?.max(1);
    }
    seen.lock().unwrap().push(request);
    let (text, stays) = match say {
        Say::Text(text) => (text, false),
        Say::Stalls(text) => (text, true),
        Say::Nothing => (String::new(), true),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    if stays {
        // Until who asked gives up.
        let gone = async { while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} };
        let _ = tokio::time::timeout(Duration::from_secs(60), gone).await;
    } else {
        stream.shutdown().await?;
    }
    Ok(())
}
