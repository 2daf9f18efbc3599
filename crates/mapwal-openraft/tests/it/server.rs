//! The server that the README shows.

#[path = "../../examples/server/main.rs"]
#[expect(dead_code, reason = "a program, of which one function is called")]
mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

#[test]
fn the_server_counts_lines_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut expected = 0;
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::scope(|scope| {
            let server = scope.spawn(|| program::serve(directory.path(), &listener, 1).expect("served"));
            let mut connection = TcpStream::connect(address).expect("connected");
            let mut answers = BufReader::new(connection.try_clone().expect("cloned")).lines();
            for _ in 0..3 {
                expected += 1;
                connection.write_all(b"a line\n").expect("sent");
                let answer = answers.next().expect("an answer").expect("received");
                assert_eq!(answer, expected.to_string());
            }
            drop((connection, answers));
            server.join().expect("ended");
        });
    }
}

#[test]
fn the_readme_shows_the_server() {
    let (readme, server) = (include_str!("../../README.md"), include_str!("../../examples/server/main.rs"));
    assert!(readme.contains(server) && server.lines().count() <= 60);
}
