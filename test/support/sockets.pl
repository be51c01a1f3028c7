#!/usr/bin/perl
# The sockets of every namespace of a test, in one small process: servers that answer with their name and the peer that they see, and
# single connections. Perl is there wherever Debian is, starts in a moment where a processor is emulated, enters namespaces (setns), and has SCTP.
#
# In, a line each:  serve ID NAMESPACE PROTOCOL ADDRESS PORT NAME KEEPS SENDS
#                   connect ID NAMESPACE PROTOCOL ADDRESS PORT SOURCE SOURCEPORT      ("-" where nothing is said)
#                   drop ID OTHER        closes a server with its connections, or gives up a connection
#                   leave ID NAMESPACE   closes all that is there
# Out:              ID done | ID answered BY PEER | ID refused | ID unreachable | ID silence | ID error TEXT
use strict;
use warnings;
use IO::Handle;
use Errno qw(EAGAIN EINPROGRESS ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH EPERM EACCES EPIPE);
use Socket qw(:all);

$| = 1;
$SIG{PIPE} = 'IGNORE';
my %PROTOCOLS = (TCP => [SOCK_STREAM, 6], UDP => [SOCK_DGRAM, 17], SCTP => [SOCK_STREAM, 132]);
my ($SETNS, $CLONE_NEWNET) = ((`uname -m` =~ /aarch64/) ? 268 : 308, 0x40000000);
my %sockets;    # fileno → { handle, id, ns, kind: server | peer | client, … }
my %inside;     # namespace → handle
my $current = '';
my $input = '';

while (1) {
  my ($reads, $writes) = ('', '');
  vec($reads, fileno(STDIN), 1) = 1;
  for my $fd (keys %sockets) {
    vec($reads, $fd, 1) = 1;
    vec($writes, $fd, 1) = 1 if $sockets{$fd}{connecting} || $sockets{$fd}{left};
  }
  next if select($reads, $writes, undef, undef) < 0;
  for my $fd (keys %sockets) {
    my $socket = $sockets{$fd} or next;
    ready($fd, $socket) if vec($reads, $fd, 1) || vec($writes, $fd, 1);
  }
  if (vec($reads, fileno(STDIN), 1)) {
    my $size = sysread(STDIN, $input, 65536, length $input);
    exit 0 unless $size;
    while ($input =~ s/^(.*)\n//) { command(split / /, $1); }
  }
}

sub command {
  my ($verb, $id, $ns, $protocol, $address, $port, @rest) = @_;
  if ($verb eq 'drop' || $verb eq 'leave') {
    close_where($verb eq 'drop' ? 'id' : 'ns', $ns);
    if ($verb eq 'leave') { delete $inside{$ns}; $current = '' if $current eq $ns; }
    print "$id done\n";
    return;
  }
  my $done = eval {
    enter($ns);
    $verb eq 'serve' ? serve($id, $ns, $protocol, $address, $port, @rest) : begin($id, $ns, $protocol, $address, $port, @rest);
    1;
  };
  print "$id error ", ($@ =~ s/\s+/ /gr), "\n" unless $done;
}

sub close_where {
  my ($key, $value) = @_;
  for my $fd (keys %sockets) {
    next unless $sockets{$fd}{$key} eq $value;
    close $sockets{$fd}{handle};
    delete $sockets{$fd};
  }
}

sub enter {
  my ($ns) = @_;
  return if $ns eq $current;
  if (!$inside{$ns}) { open $inside{$ns}, '<', "/run/netns/$ns" or die "namespace $ns: $!"; }
  syscall($SETNS, fileno($inside{$ns}), $CLONE_NEWNET) == 0 or die "setns $ns: $!";
  $current = $ns;
}

# A socket of the family that the address has, and the address with the port in its form.
sub open_socket {
  my ($protocol, $address, $port) = @_;
  my ($type, $number) = @{$PROTOCOLS{$protocol}};
  my $is6 = $address =~ /:/;
  socket(my $handle, $is6 ? AF_INET6 : AF_INET, $type | SOCK_NONBLOCK, $number) or die "socket $protocol: $!";
  # An ICMP error is to end an SCTP association, too.
  if ($protocol eq 'SCTP') { setsockopt($handle, $is6 ? 41 : 0, $is6 ? 25 : 11, 1) or die "recverr: $!"; }
  return ($handle, pack_address($address, $port));
}

sub pack_address {
  my ($address, $port) = @_;
  return pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) if $address =~ /:/;
  return pack_sockaddr_in($port, inet_pton(AF_INET, $address));
}

sub text_of {
  my ($packed) = @_;
  my (undef, $ip) = sockaddr_family($packed) == AF_INET6 ? unpack_sockaddr_in6($packed) : unpack_sockaddr_in($packed);
  my $text = inet_ntop(sockaddr_family($packed), $ip);
  return $text =~ s/^::ffff:(?=\d+\.)//r;
}

sub serve {
  my ($id, $ns, $protocol, $address, $port, $name, $keeps, $sends) = @_;
  my ($handle, $packed) = open_socket($protocol, $address eq '-' ? '::' : $address, $port);
  setsockopt($handle, SOL_SOCKET, SO_REUSEADDR, 1) unless $protocol eq 'UDP';
  bind($handle, $packed) or die "bind $address $port: $!";
  if ($protocol ne 'UDP') { listen($handle, 512) or die "listen: $!"; }
  $sockets{fileno $handle} =
    { handle => $handle, id => $id, ns => $ns, kind => 'server', protocol => $protocol, name => $name, keeps => $keeps, sends => $sends };
  print "$id done\n";
}

sub begin {
  my ($id, $ns, $protocol, $address, $port, $source, $source_port) = @_;
  my ($handle, $packed) = open_socket($protocol, $address, $port);
  if ($source ne '-' || $source_port ne '-') {
    my $any = $address =~ /:/ ? '::' : '0.0.0.0';
    my $from = pack_address($source eq '-' ? $any : $source, $source_port eq '-' ? 0 : $source_port);
    bind($handle, $from) or die "bind $source $source_port: $!";
  }
  my $client = { handle => $handle, id => $id, ns => $ns, kind => 'client', protocol => $protocol, text => '' };
  if (connect($handle, $packed)) {
    if ($protocol eq 'UDP' && !defined send($handle, "?\n", 0)) { return failed($id, 0 + $!); }
  } elsif ($! == EINPROGRESS) {
    $client->{connecting} = 1;
  } else {
    return failed($id, 0 + $!);
  }
  $sockets{fileno $handle} = $client;
}

# How a connection ended that gave no answer. A packet that the sender's own rules drop is an error to its send: silence, as to everybody else.
sub failed {
  my ($id, $number) = @_;
  local $! = $number;
  my $outcome =
      $number == ECONNREFUSED || $number == ECONNRESET || $number == EPIPE ? 'refused'
    : $number == EHOSTUNREACH || $number == ENETUNREACH ? 'unreachable'
    : $number == EPERM || $number == EACCES ? 'silence'
    :                                          "error $!";
  print "$id $outcome\n";
}

sub ready {
  my ($fd, $socket) = @_;
  return $socket->{protocol} eq 'UDP' ? reply($socket) : take($socket) if $socket->{kind} eq 'server';
  return if $socket->{left} && !feed($fd, $socket);
  return drain($fd, $socket) if $socket->{kind} eq 'peer';
  if (delete $socket->{connecting}) {
    my $number = unpack 'i', getsockopt($socket->{handle}, SOL_SOCKET, SO_ERROR);
    return end($fd, sub { failed($socket->{id}, $number) }) if $number;
  }
  my $size = sysread($socket->{handle}, $socket->{text}, 4096, length $socket->{text});
  if (!defined $size) {
    my $number = 0 + $!;
    return if $number == EAGAIN;
    return end($fd, sub { failed($socket->{id}, $number) });
  }
  return if $size > 0 && $socket->{protocol} ne 'UDP';
  my ($by, $peer) = split ' ', $socket->{text};
  end($fd, sub { print defined $peer ? "$socket->{id} answered $by $peer\n" : "$socket->{id} refused\n" });
}

sub end {
  my ($fd, $say) = @_;
  close $sockets{$fd}{handle};
  delete $sockets{$fd};
  $say->();
}

sub reply {
  my ($server) = @_;
  my $peer = recv($server->{handle}, my $data, 2048, 0);
  send($server->{handle}, "$server->{name} " . text_of($peer) . "\n", 0, $peer) if defined $peer;
}

sub take {
  my ($server) = @_;
  my $packed = accept(my $handle, $server->{handle}) or return;
  $handle->blocking(0);
  $sockets{fileno $handle} =
    { handle => $handle, id => $server->{id}, ns => $server->{ns}, kind => 'peer', name => $server->{name}, keeps => $server->{keeps} };
  return if $server->{keeps};
  if ($server->{sends}) {
    my $peer = $sockets{fileno $handle};
    @$peer{'left', 'line', 'chunk'} = ($server->{sends}, 0, '');
    return;
  }
  syswrite($handle, "$server->{name} " . text_of($packed) . "\n");
  shutdown($handle, 1);
}

# Sends on, as much as is taken. False when the connection is gone.
sub feed {
  my ($fd, $peer) = @_;
  while ($peer->{left} > 0) {
    if ($peer->{chunk} eq '') { $peer->{chunk} = join '', map { sprintf "%063d\n", $peer->{line}++ } 1 .. 1024; }
    my $size = syswrite($peer->{handle}, $peer->{chunk}, length $peer->{chunk} < $peer->{left} ? length $peer->{chunk} : $peer->{left});
    if (!defined $size) {
      return 1 if $! == EAGAIN;
      close $peer->{handle};
      delete $sockets{$fd};
      return 0;
    }
    substr($peer->{chunk}, 0, $size, '');
    $peer->{left} -= $size;
  }
  shutdown($peer->{handle}, 1);
  return 1;
}

# A connection that has its answer stays until the client is done, so that no byte of his turns it into a reset.
sub drain {
  my ($fd, $peer) = @_;
  my $size = sysread($peer->{handle}, my $data, 65536);
  syswrite($peer->{handle}, "$peer->{name}\n") if $size && $peer->{keeps};
  return if $size || (!defined $size && $! == EAGAIN);
  close $peer->{handle};
  delete $sockets{$fd};
}
