set -x
uname -r
modprobe -a ip_vs dummy ip_set xt_set || true
ls /proc/sys/net/ipv4/vs/
ipvsadm -A -t 198.51.100.0:20000 -s nosuch; echo rc $?
ipvsadm -A -t 198.51.100.0:20000 -s wrr; echo rc $?
ipvsadm -A -t 198.51.100.0:20000 -s wrr; echo rc $?
printf '%s\n' '-A -t 1.2.3.4:80 -s mh -b mh-port -p 10800' '-a -t 1.2.3.4:80 -r 10.0.0.1:8080 -m -w 1' '-A -u 1.2.3.4:53 -s rr' '-A --sctp-service 1.2.3.4:99 -s rr' '-a --sctp-service 1.2.3.4:99 -r 10.0.0.1:8080 -m -w 1' '-A -t [fd00::1]:80 -s rr -p 60' '-a -t [fd00::1]:80 -r [fd00::2]:8080 -m -w 0' | ipvsadm -R; echo rc $?
ipvsadm -S -n
cat /proc/net/ip_vs
printf '%s\n' '-a -t 9.9.9.9:80 -r 10.0.0.1:8080 -m -w 1' '-A -t 1.2.3.5:80 -s rr' | ipvsadm -R; echo rc $?
printf '%s\n'  '-A -t 1.2.3.6:80 -s rr' '-A -t 1.2.3.6:80 -s rr' '-A -t 1.2.3.7:80 -s rr' '-D -t 1.1.1.1:80'  | ipvsadm -R; echo rc $?
printf '%s\n'  'garbage' '-A -t 1.2.3.8:80 -s rr'  | ipvsadm -R; echo rc $?
printf '%s\n'  '-E -t 1.2.3.4:80 -s wlc' '-e -t 1.2.3.4:80 -r 10.0.0.1:8080 -m -w 0'  '-D -t 1.2.3.8:80' '-d -t 1.2.3.4:80 -r 10.0.0.1:8080' | ipvsadm -R; echo rc $?
ipvsadm -S -n
ipvsadm --set 900 120 300; ipvsadm -L --timeout
ip link add kube-ipvs0 type dummy; echo $?
printf '%s\n' 'addr add 172.30.0.1/32 dev kube-ipvs0' 'addr add fd00:10:96::1/128 dev kube-ipvs0' 'addr add 172.30.0.1/32 dev kube-ipvs0' 'addr add 172.30.0.2/32 dev kube-ipvs0' 'addr del 172.30.0.9/32 dev kube-ipvs0' | ip -force -batch -; echo rc $?
ip -d -j addr show
ip route show table local; ip -6 route show table local
printf '%s\n' 'create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536' 'create KUBE-NODE-PORT-TCP bitmap:port range 0-65535' 'create KUBE-X hash:ip,port,net' 'create KUBE-Y hash:ip,port,ip' 'create KUBE-6-X hash:ip,port family inet6' 'create KUBE-IPVS-IPS hash:ip' 'add KUBE-CLUSTER-IP 172.30.0.1,tcp:80' 'add KUBE-CLUSTER-IP 172.30.0.1,sctp:80' 'add KUBE-6-X fd00::1,udp:80' 'add KUBE-NODE-PORT-TCP 30001' 'add KUBE-X 1.2.3.4,tcp:80,10.0.0.0/8' 'add KUBE-X 1.2.3.4,tcp:80,10.0.0.1/32' 'add KUBE-IPVS-IPS 1.2.3.4' 'add KUBE-Y 1.2.3.4,tcp:80,1.2.3.4'| ipset restore; echo rc $?
ipset save
ipset list -terse
printf '%s\n' 'add KUBE-CLUSTER-IP 172.30.0.1,tcp:80' | ipset restore; echo rc $?
printf '%s\n' 'add KUBE-CLUSTER-IP 172.30.0.1,tcp:80'  'del KUBE-CLUSTER-IP 172.30.0.99,tcp:80' 'create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536'| ipset -exist restore; echo rc $?
printf '%s\n' 'create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 99999' | ipset -exist restore; echo rc $?
printf '%s\n' 'create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 4096 maxelem 65536' | ipset -exist restore; echo rc $?
iptables -A INPUT -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
iptables -A INPUT -m set ! --match-set KUBE-CLUSTER-IP dst,dst -m comment --comment "Kubernetes x" -j DROP
iptables -t mangle -A OUTPUT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j DROP
iptables -A INPUT -m ipvs --vaddr 1.2.3.4 -j DROP
iptables -A INPUT -m addrtype ! --src-type LOCAL -j DROP
iptables-save
printf '*filter\n-A INPUT -m set --match-set KUBE-NOPE dst -j DROP\nCOMMIT\n' | iptables-restore --noflush; echo rc $?
ip route get 172.30.0.1
ipset destroy KUBE-CLUSTER-IP; echo rc $?
which iptables-legacy modprobe
