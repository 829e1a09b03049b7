//! A mail server that says what a test tells it to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does when a command starts with these letters.
#[derive(Clone, Copy)]
pub enum Answer {
    Say(&'static str),
    /// Cuts the connection instead of answering.
    Hang,
}

/// Rules by command; `.` is the end of the mail. The first rule that fits is used.
pub type Script = &'static [(&'static str, Answer)];

#[derive(Clone)]
pub struct Server {
    pub port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let server = Self { port: listener.local_addr().unwrap().port(), heard: Arc::clone(&heard) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                heard.lock().unwrap().push("(connected)".to_owned());
                tokio::spawn(talk(stream, script, Arc::clone(&heard)));
            }
        });
        server
    }

    /// The commands it heard, and `(connected)` for each connection.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub fn commands(&self) -> String {
        let verb = |line: &String| line.split([' ', ':']).next().unwrap().to_owned();
        self.heard().iter().map(verb).collect::<Vec<_>>().join(" ")
    }
}

fn default_answer(command: &str) -> &'static str {
    match command.get(..4).unwrap_or(command) {
        "EHLO" => "250-test.example\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1000000",
        "AUTH" => "235 2.7.0 welcome",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        "." => "250 2.0.0 queued as 4F1Z",
        _ => "250 2.1.0 ok",
    }
}

async fn talk(stream: TcpStream, script: Script, heard: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut command = "CONNECT".to_owned();
    loop {
        let rule = script.iter().find(|(verb, _)| command.starts_with(verb)).map(|(_, answer)| *answer);
        let words = match (rule, command.as_str()) {
            (Some(Answer::Hang), _) => return,
            (Some(Answer::Say(words)), _) => words,
            (None, "CONNECT") => "220 test.example ESMTP",
            (None, command) => default_answer(command),
        };
        if stream.write_all(format!("{words}\r\n").as_bytes()).await.is_err() {
            return;
        }
        let in_mail = words.starts_with("354");
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_owned();
            if !in_mail || line == "." {
                command = line;
                break;
            }
        }
        heard.lock().unwrap().push(command.clone());
    }
}
