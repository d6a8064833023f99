# What the three containers of a pod have in common. Each is started without waiting for another. That the server
# listens is told by semaphores, which all of a pod see and whoever comes first makes: who waits sleeps, where asking
# again and again would cost another amount each time.

use strict;
use warnings;
use Socket;

my $IPC_CREAT = 01000;
my $semaphores = semget(0x706f64, 1, $IPC_CREAT | 0600) // die "semget: $!\n";
our $address = pack_sockaddr_in(8080, INADDR_LOOPBACK);

sub tell_ready {
    my ($times) = @_;
    semop($semaphores, pack("s!3", 0, $times, 0)) or die "semop: $!\n";
}

sub wait_ready {
    semop($semaphores, pack("s!3", 0, -1, 0)) or die "semop: $!\n";
}

# A connection to the server that says who has made it.
sub greet {
    my ($who) = @_;
    wait_ready();
    socket(my $server, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    connect($server, $address) or die "connect: $!\n";
    say_line($server, $who);
    return $server;
}

sub say_line {
    my ($to, $line) = @_;
    my $bytes = "$line\n";
    syswrite($to, $bytes) == length($bytes) or die "write: $!\n";
}

sub hear_line {
    my ($from) = @_;
    my $line = readline($from) // die "the connection ended\n";
    chomp $line;
    return $line;
}

sub answer {
    my ($number) = @_;
    return join(" ", map { $number * $_ } 1 .. 100);
}

sub host {
    open(my $file, "<", "/proc/sys/kernel/hostname") or die "hostname: $!\n";
    return hear_line($file);
}

1;
