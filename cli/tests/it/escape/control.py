"""What a developer does in a box has to work there, or what is stopped proves nothing."""

from probe import *

os.makedirs("/tmp/control", exist_ok=True)
with open("/tmp/control/t.c", "w") as file:
    file.write('int main(void) { return 7; }')
built = sh("cc -o /tmp/control/t /tmp/control/t.c && /tmp/control/t")
assert built.returncode == 7, built
with open("control.txt", "w") as file:
    file.write("work")
assert git("status", "--short").returncode == 0
os.unlink("control.txt")

server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].sendall(b"over loopback")
assert client.recv(100) == b"over loopback"

if PROXY:
    site = f"127.0.0.1:{F.site}"
    answer = ask(f"GET http://{site}/control HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\n\r\n")
    assert b"welcome" in answer, answer
    got = connect_through("127.0.0.1", F.site)
    assert not isinstance(got, str), got
    answer = talk(got, b"GET /control HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"welcome" in answer, answer
print("control: well")
