#!/usr/bin/env bash
# Tests the proxy, $1, in front of the echo server of the same folder. Bytes and the end of each
# stream get through. A missing server does not disturb the proxy. Nothing is left at the end.
set -euo pipefail
# shellcheck source=tests/processes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../processes.sh"
listening='listens on 127.0.0.1:'

start echo "$listening" "$(dirname "$1")/echo_server" 0
echo=$pid
start proxy "$listening" "$1" 0 127.0.0.1 "$port"
proxy=$pid

# The echo server closes when it has seen the end of the stream, and the client closes after that.
# So both ends were forwarded. A megabyte is more than any buffer on the way holds.
cat >"$directory/client.pl" <<'END'
use IO::Socket::INET;
my $peer = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or die "connect: $!";
local $/;
my $text = <STDIN>;
unless (fork) { print $peer $text; $peer->flush; shutdown $peer, 1; exit }
print <$peer>;
wait;
END
head -c 1000000 /dev/urandom >"$directory/sent"
timeout 20 perl "$directory/client.pl" "$port" <"$directory/sent" >"$directory/received" ||
    fail 'a megabyte and its end did not come back'
cmp -s "$directory/sent" "$directory/received" || fail 'the megabyte came back changed'
reply=$(timeout 20 "$(dirname "$1")/echo_client" 127.0.0.1 "$port" 'hello, proxy') || fail 'no reply'
[[ $reply == 'hello, proxy' ]] || fail "got '$reply' back"

exec {open}<>"/dev/tcp/127.0.0.1/$port"
echo 'still there' >&"$open"
read -r -t 10 -u "$open" line || fail 'no reply on a connection that stays'
exec {vanishing}<>"/dev/tcp/127.0.0.1/$port"
echo 'unread' >&"$vanishing"
exec {vanishing}>&-

# A side that breaks off in the middle is forwarded as a reset, and not as an end.
cat >"$directory/origin.pl" <<'END'
use IO::Socket::INET;
use Socket;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5) or die "listen: $!";
$| = 1;
print "listens on 127.0.0.1:", $listener->sockport, "\n";
my $peer = $listener->accept;
my ($n, $buffer);
1 while $n = sysread $peer, $buffer, 65536;
print defined $n ? "an end\n" : "a reset\n";
END
start origin "$listening" perl "$directory/origin.pl"
origin=$pid
start second "$listening" "$1" 0 127.0.0.1 "$port"
second=$pid
timeout 20 perl -MIO::Socket::INET -MSocket -e '
    my $peer = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or die "connect: $!";
    syswrite $peer, "x" x 100000;
    setsockopt $peer, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0);
    close $peer' "$port" || fail 'the client that breaks off failed'
ended 0 "$origin" 'the origin'
[[ $(tail -n 1 "$directory/origin.out") == 'a reset' ]] || fail "the reset came as $(tail -n 1 "$directory/origin.out")"
terminate "$second"
ended 0 "$second" 'the second proxy'
port=$(sed -n 's/.*listens on 127.0.0.1://p' "$directory/proxy.out")

terminate "$echo"
ended 143 "$echo" 'the echo server'
read -r -t 10 -u "$open" line && fail "got '$line' after the end"
if timeout 20 "$(dirname "$1")/echo_client" 127.0.0.1 "$port" nobody >/dev/null 2>&1; then
    fail 'it had a reply without a server'
fi
for ((i = 0; i < 200; ++i)); do
    ! grep -q 'connect to 127.0.0.1:[0-9]*: Connection refused' "$directory/proxy.err" || break
    sleep 0.05
done
((i < 200)) || fail 'it did not say that the server is not there'

terminate "$proxy"
ended 0 "$proxy" 'the proxy'
[[ $(tail -n 1 "$directory/proxy.out") == 'left: 0 operations, 0 connections, 0 buffers' ]] ||
    fail 'something was left'
processes=()
