"""The rig's own promises, on a running rig: `eval "$(scripts/aws-rig env)"; scripts/aws-rig self-test`.

Every test uses an AWS account of its own (a key of twelve digits names one), so the rig may be shared.
"""
import json
import os
import random
import socket
import socketserver
import ssl
import threading
import time
import unittest
import urllib.error
import urllib.request

import boto3
import docker
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

REGION = "us-east-1"
# A web server in what the run image has; /bad makes its health check fail, TERM ends it with 7.
SERVER = r"""use IO::Socket::INET; $SIG{TERM} = sub { exit 7 };
my $s = IO::Socket::INET->new(LocalPort => 5000, Listen => 50, ReuseAddr => 1) or die;
while (1) { my $c = $s->accept or next; while (<$c>) { last if /^\r?$/ } print $c "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"; close $c }"""


def setting(name):
    value = os.environ.get(name)
    if not value:
        raise AssertionError(f"not run: no AWS rig ({name} is not set)")
    return value


def until(what, seconds=60):
    """The first true answer; the last one when the time is over."""
    end = time.time() + seconds
    while not (found := what()) and time.time() < end:
        time.sleep(0.1)
    return found


class Rig(unittest.TestCase):
    def setUp(self):
        self.api = setting("PAAS_TEST_AWS")
        self.account = f"{random.randrange(10**11, 10**12)}"
        self.name = f"t{self.account}"

    def client(self, service, endpoint=None, attempts=1):
        return boto3.client(service, endpoint_url=endpoint or self.api, region_name=REGION, aws_access_key_id=self.account,
                            aws_secret_access_key="test", config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}))

    def refuses(self, code, call, **given):
        with self.assertRaises(ClientError) as raised:
            call(**given)
        self.assertEqual(raised.exception.response["Error"]["Code"], code)

    def zone(self, domain, **records):
        route53 = self.client("route53")
        zone = route53.create_hosted_zone(Name=domain, CallerReference=self.name + domain)["HostedZone"]["Id"]
        for kind, (name, value) in records.items():
            self.record(zone, kind, name, value)
        return zone

    def record(self, zone, kind, name, value):
        self.client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [{
            "Action": "UPSERT", "ResourceRecordSet": {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}}]})

    def balancer(self):
        ec2, elb = self.client("ec2"), self.client("elbv2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24")["Subnet"]["SubnetId"] for i in (1, 2)]
        return vpc, subnets, elb.create_load_balancer(Name=self.name, Subnets=subnets)["LoadBalancers"][0]


class Tasks(Rig):
    def setUp(self):
        super().setUp()
        self.ecs = self.client("ecs")
        self.ecs.create_cluster(clusterName=self.name)
        run, here = setting("PAAS_TEST_RUN"), self.api.removeprefix("http://")
        self.image = f"{here}/rig-test-{self.account}:1"
        # The registry belongs to the default account.
        boto3.client("ecr", endpoint_url=self.api, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
                     ).create_repository(repositoryName=f"rig-test-{self.account}")
        self.engine = docker.from_env()
        self.engine.images.get(run).tag(self.image)
        self.addCleanup(self.engine.images.remove, self.image)
        self.engine.images.push(self.image)

    def define(self, **container):
        return self.ecs.register_task_definition(
            family=self.name, requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            containerDefinitions=[{"name": "web", "image": self.image, "entryPoint": ["perl", "-e", SERVER], "stopTimeout": 5,
                                   "portMappings": [{"containerPort": 5000}], **container}])["taskDefinition"]["taskDefinitionArn"]

    def service(self, definition, **more):
        self.ecs.create_service(cluster=self.name, serviceName="web", taskDefinition=definition, desiredCount=1,
                                networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}}, **more)
        self.addCleanup(self.ecs.delete_service, cluster=self.name, service="web", force=True)

    def described(self):
        return self.ecs.describe_services(cluster=self.name, services=["web"])["services"][0]

    def task(self, status="RUNNING", besides=None):
        arns = [a for a in self.ecs.list_tasks(cluster=self.name, desiredStatus=status)["taskArns"] if a != besides]
        return self.ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"][0] if arns else None

    def test_a_container_that_fails_its_check_is_replaced(self):
        check = {"command": ["CMD-SHELL", "test ! -e /tmp/bad"], "interval": 5, "timeout": 2, "retries": 1}
        self.service(self.define(healthCheck=check))
        self.assertEqual(self.described()["deployments"][0]["rolloutState"], "IN_PROGRESS")
        first = until(lambda: (t := self.task()) and t["lastStatus"] == "RUNNING" and t)
        self.assertIn(first["healthStatus"], ("UNKNOWN", "HEALTHY"))
        self.assertTrue(until(lambda: self.task()["healthStatus"] == "HEALTHY"))
        self.assertTrue(until(lambda: self.described()["deployments"][0]["rolloutState"] == "COMPLETED"))
        container = self.engine.containers.list(filters={"label": f"com.amazonaws.ecs.task-arn={first['taskArn']}"})[0]
        container.exec_run(["touch", "/tmp/bad"])
        second = until(lambda: (t := self.task(besides=first["taskArn"])) and t["healthStatus"] == "HEALTHY" and t)
        self.assertTrue(second)
        old = self.ecs.describe_tasks(cluster=self.name, tasks=[first["taskArn"]])["tasks"][0]
        self.assertEqual((old["stoppedReason"], old["stopCode"]), ("Task failed container health checks", "ServiceSchedulerInitiated"))
        self.assertEqual(old["healthStatus"], "UNHEALTHY")

    def test_a_check_that_hangs_has_failed(self):
        check = {"command": ["CMD", "sleep", "60"], "interval": 5, "timeout": 2, "retries": 1}
        definition = self.define(healthCheck=check)
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        arn = self.ecs.run_task(cluster=self.name, taskDefinition=definition, networkConfiguration=network)["tasks"][0]["taskArn"]
        self.assertTrue(until(lambda: self.task()["healthStatus"] == "UNHEALTHY"))
        # A task of no service goes on; its own exit code comes back.
        self.assertEqual(self.task()["lastStatus"], "RUNNING")
        self.ecs.stop_task(cluster=self.name, task=arn)
        ended = until(lambda: (t := self.task("STOPPED")) and t["lastStatus"] == "STOPPED" and t)
        self.assertEqual((ended["containers"][0]["exitCode"], ended["stopCode"]), (7, "UserInitiated"))

    def test_a_service_behind_a_balancer_answers_by_its_host_name(self):
        vpc, subnets, lb = self.balancer()
        elb = self.client("elbv2")
        group = elb.create_target_group(Name=self.name, Protocol="HTTP", Port=5000, VpcId=vpc, TargetType="ip", HealthCheckPath="/",
                                        HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2)["TargetGroups"][0]["TargetGroupArn"]
        elb.create_listener(LoadBalancerArn=lb["LoadBalancerArn"], Port=80, Protocol="HTTP",
                            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
        self.zone(f"{self.name}.test", A=(f"*.{self.name}.test", lb["DNSName"]))
        self.service(self.define(), loadBalancers=[{"targetGroupArn": group, "containerName": "web", "containerPort": 5000}])
        asked = urllib.request.Request(setting("PAAS_TEST_AWS_FRONT"), headers={"Host": f"hello.{self.name}.test"})

        def answer():
            try:
                return urllib.request.urlopen(asked, timeout=5).read() == b"hello"
            except OSError:
                return False
        self.assertTrue(until(answer))

    def test_without_room_nothing_starts_and_the_service_says_why(self):
        def put(full):
            urllib.request.urlopen(urllib.request.Request(setting("PAAS_TEST_AWS_STATE") + "/capacity", method="PUT",
                                                          data=json.dumps({self.name: full}).encode()))

        def said():
            return [e["message"] for e in self.described()["events"] if "unable to place" in e["message"] or "started" in e["message"]]
        put({"FARGATE": "Capacity is unavailable at this time."})
        self.addCleanup(put, {})
        definition = self.define()
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        run = self.ecs.run_task(cluster=self.name, taskDefinition=definition, launchType="FARGATE", networkConfiguration=network)
        self.assertEqual((run["tasks"], run["failures"][0]["reason"]), ([], "Capacity is unavailable at this time."))
        self.service(definition, launchType="FARGATE")
        self.assertIn("Reason: Capacity is unavailable at this time. For more", until(said)[0])
        time.sleep(2)
        self.assertEqual(len(said()), 1)
        self.assertEqual(self.described()["deployments"][0]["rolloutState"], "IN_PROGRESS")
        put({})
        self.assertTrue(until(self.task))
        self.assertTrue(until(lambda: "has started 1 tasks" in said()[0]))

    def test_what_fargate_does_not_have_is_refused(self):
        for field, value in (("memory", "4096"), ("cpu", "300")):
            size = {"cpu": "256", "memory": "512", field: value}
            self.refuses("ClientException", self.ecs.register_task_definition, family="x", requiresCompatibilities=["FARGATE"],
                         networkMode="awsvpc", containerDefinitions=[{"name": "web", "image": "x"}], **size)
        self.refuses("ClusterNotFoundException", self.ecs.run_task, cluster="no", taskDefinition="x")


class Certificates(Rig):
    def request(self, *names):
        acm = self.client("acm")
        arn = acm.request_certificate(DomainName=names[0], SubjectAlternativeNames=list(names), ValidationMethod="DNS")["CertificateArn"]
        return acm, arn

    def validate(self, acm, arn, zone):
        def options():
            found = acm.describe_certificate(CertificateArn=arn)["Certificate"]["DomainValidationOptions"]
            return found if all("ResourceRecord" in o for o in found) else None
        for o in until(options):
            self.record(zone, "CNAME", o["ResourceRecord"]["Name"], o["ResourceRecord"]["Value"])
        self.assertTrue(until(lambda: acm.describe_certificate(CertificateArn=arn)["Certificate"]["Status"] == "ISSUED"))

    def shown(self, host):
        """The names of the certificate that the front door shows for this host name, checked against the test authority."""
        context = ssl.create_default_context(cafile=setting("PAAS_TEST_AWS_CA"))
        port = int(setting("PAAS_TEST_AWS_FRONT_TLS").rsplit(":", 1)[1])
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain, server_hostname=host) as s:
                return {value for _, value in s.getpeercert()["subjectAltName"]}
        except ssl.SSLError as e:
            return e.reason

    def test_the_front_door_shows_the_certificate_of_the_name(self):
        domain = f"{self.name}.test"
        acm, first = self.request(f"*.{domain}", domain)
        _, _, lb = self.balancer()
        zone, elb = self.zone(domain, A=(f"*.{domain}", lb["DNSName"])), self.client("elbv2")
        listener = {"LoadBalancerArn": lb["LoadBalancerArn"], "Port": 443, "Protocol": "HTTPS", "DefaultActions": [
            {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "no app"}}]}
        self.assertEqual(acm.describe_certificate(CertificateArn=first)["Certificate"]["Status"], "PENDING_VALIDATION")
        self.refuses("UnsupportedCertificate", elb.create_listener, **listener, Certificates=[{"CertificateArn": first}])
        self.validate(acm, first, zone)
        arn = elb.create_listener(**listener, Certificates=[{"CertificateArn": first}])["Listeners"][0]["ListenerArn"]
        self.assertTrue(until(lambda: self.shown(f"hello.{domain}") == {domain, f"*.{domain}"}))

        acm, second = self.request(f"shop.{domain}")
        self.validate(acm, second, zone)
        elb.add_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": second}])
        self.assertTrue(until(lambda: self.shown(f"shop.{domain}") == {f"shop.{domain}"}))
        self.assertEqual(self.shown(f"hello.{domain}"), {domain, f"*.{domain}"})
        self.assertIsInstance(self.shown("elsewhere.example"), str, "a name without a record gets no certificate")
        self.refuses("ResourceInUseException", acm.delete_certificate, CertificateArn=second)
        elb.remove_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": second}])
        acm.delete_certificate(CertificateArn=second)


class Rules(Rig):
    """What the listeners take, and what the front door makes of it. The targets are in this process."""
    def setUp(self):
        super().setUp()
        self.elb, (self.vpc, _, self.lb) = self.client("elbv2"), self.balancer()
        self.listener = self.elb.create_listener(LoadBalancerArn=self.lb["LoadBalancerArn"], Port=80, Protocol="HTTP", DefaultActions=[
            self.says("404", "nobody")])["Listeners"][0]["ListenerArn"]
        self.zone(f"{self.name}.test", A=(f"*.{self.name}.test", self.lb["DNSName"]))
        self.host = f"hello.{self.name}.test"

    def says(self, status, text):
        return {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": status, "MessageBody": text, "ContentType": "text/plain"}}

    def rule(self, priority, action, **conditions):
        fields = {"host": ("host-header", "HostHeaderConfig"), "source": ("source-ip", "SourceIpConfig")}
        return self.elb.create_rule(ListenerArn=self.listener, Priority=priority, Actions=[action], Conditions=[
            {"Field": fields[kind][0], fields[kind][1]: {"Values": [value]}} for kind, value in conditions.items()])

    def asked(self):
        front = setting("PAAS_TEST_AWS_FRONT")
        try:
            return urllib.request.urlopen(urllib.request.Request(front, headers={"Host": self.host}), timeout=5).read().decode()
        except urllib.error.HTTPError as e:
            return e.read().decode()

    def test_a_source_decides(self):
        self.rule(1, self.says("200", "from nowhere"), host=self.host, source="192.0.2.1/32")
        self.rule(2, self.says("200", "from here"), host=self.host, source="127.0.0.0/8")
        self.rule(3, self.says("200", "from anywhere"), host=self.host)
        self.assertTrue(until(lambda: self.asked() == "from here"), self.asked())

    def test_conditions_that_aws_does_not_take_are_refused(self):
        page = self.says("200", "hi")
        for bad in ({"source": "255.255.255.255/32"}, {"source": "everybody"}, {"host": "a" * 117 + ".example.com"},
                    {"host": "localhost"}, {"host": "example.xn--p1ai"}, {"host": "example.c0m"}, {"host": "a:80.example.com"}):
            self.refuses("ValidationError", self.rule, priority=1, action=page, **bad)
        rule = self.rule(1, page, host="*.xn--bcher-kva.example")["Rules"][0]["RuleArn"]
        self.refuses("ValidationError", self.elb.modify_rule, RuleArn=rule, Conditions=[
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["255.255.255.255/32"]}}])

    def test_a_websocket_is_carried_both_ways(self):
        served = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
        served.daemon_threads = True
        threading.Thread(target=served.serve_forever, daemon=True).start()
        self.addCleanup(served.server_close)
        self.addCleanup(served.shutdown)
        group = self.elb.create_target_group(Name=self.name, Protocol="HTTP", Port=5000, VpcId=self.vpc, TargetType="ip",
                                             HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2)["TargetGroups"][0]["TargetGroupArn"]
        self.rule(1, {"Type": "forward", "TargetGroupArn": group}, host=self.host)
        self.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": served.server_address[1]}])
        self.assertTrue(until(lambda: self.asked() == "an echo"), self.asked())
        port = int(setting("PAAS_TEST_AWS_FRONT").rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s, s.makefile("rb") as answer:
            s.sendall((f"GET /chat HTTP/1.1\r\nHost: {self.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
            head = []
            while line := answer.readline().strip():
                head.append(line.decode().lower())
            self.assertIn("101", head[0])
            self.assertIn("seen: http websocket dghlihnhbxbszsbub25jzq==", head)
            for text in (b"\x81\x85maskhello", b"\0" * 70000):
                s.sendall(text)
                self.assertEqual(answer.read(len(text)), text)
            # Silence does not end it, and an ordinary request is answered beside it.
            time.sleep(1)
            self.assertEqual(self.asked(), "an echo")
            s.sendall(b"bye")
            self.assertEqual(answer.read(3), b"bye")
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(answer.read(), b"", "the end comes through")


class Echo(socketserver.StreamRequestHandler):
    """Says what it is, or sends back every byte that comes behind an upgrade."""
    def handle(self):
        head = {}
        self.rfile.readline()
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin1").partition(":")
            head[name.lower()] = value.strip()
        if "upgrade" not in head:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nan echo")
            return
        seen = f"{head['x-forwarded-proto']} {head['upgrade']} {head['sec-websocket-key']}"
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSeen: {seen}\r\n\r\n".encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Faults(Rig):
    def setUp(self):
        super().setUp()
        self.line = self.ask("POST", setting("PAAS_TEST_AWS_FAULTS") + "/_line")["url"]
        self.addCleanup(self.ask, "DELETE", self.line + "/_line")
        self.sqs, self.behind = self.client("sqs", self.line), self.client("sqs")

    def ask(self, method, url, what=None):
        request = urllib.request.Request(url, method=method, data=None if what is None else json.dumps(what).encode())
        return json.load(urllib.request.urlopen(request, timeout=10))

    def faults(self, *faults):
        return self.ask("POST", self.line + "/_fault", list(faults))

    def queues(self):
        return self.behind.list_queues(QueueNamePrefix=self.name).get("QueueUrls", [])

    def test_an_answer_that_is_lost_has_had_its_effect(self):
        self.faults({"target": "^sqs:CreateQueue ", "drop": "after", "times": 1})
        with self.assertRaises(BotoCoreError):
            self.sqs.create_queue(QueueName=self.name)
        self.assertEqual(len(self.queues()), 1)
        self.sqs.create_queue(QueueName=self.name)
        found = self.ask("GET", self.line + "/_fault")
        self.assertEqual((found["calls"], found["hits"]), ({"sqs:CreateQueue": 2}, [["sqs:CreateQueue", "drop after"]]))
        self.assertEqual(self.ask("DELETE", self.line + "/_fault")["calls"], {})

    def test_a_call_that_never_arrives_has_none(self):
        self.faults({"target": "^sqs:CreateQueue ", "drop": "before", "times": 1})
        with self.assertRaises(BotoCoreError):
            self.sqs.create_queue(QueueName=self.name)
        self.assertEqual(self.queues(), [])

    def test_errors_look_like_the_services_own(self):
        self.faults({"target": "^sqs:", "status": 400, "code": "ThrottlingException", "times": 1},
                    {"target": "^elasticloadbalancing:", "status": 400, "code": "Throttling", "times": 1},
                    {"target": "^s3:GetObject ", "status": 503, "code": "SlowDown", "times": 1},
                    {"target": "^route53:ListHostedZones ", "status": 403, "code": "AccessDenied", "times": 1})
        self.refuses("ThrottlingException", self.sqs.list_queues)
        self.refuses("Throttling", self.client("elbv2", self.line).describe_load_balancers)
        self.refuses("SlowDown", self.client("s3", self.line).get_object, Bucket="b", Key="k")
        self.refuses("AccessDenied", self.client("route53", self.line).list_hosted_zones)

    def test_a_stale_read_does_not_see_the_last_write(self):
        url = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        attributes = {"QueueUrl": url, "AttributeNames": ["VisibilityTimeout"]}
        self.sqs.get_queue_attributes(**attributes)
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "77"})
        self.faults({"target": "^sqs:GetQueueAttributes ", "stale": True, "times": 1})
        self.assertEqual(self.sqs.get_queue_attributes(**attributes)["Attributes"]["VisibilityTimeout"], "30")
        self.assertEqual(self.sqs.get_queue_attributes(**attributes)["Attributes"]["VisibilityTimeout"], "77")

    def test_a_part_of_a_batch_can_fail_inside_a_200(self):
        failed = [{"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "not now"}]
        url = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        self.faults({"target": "^sqs:SendMessageBatch ", "merge": {"Successful": [], "Failed": failed}, "times": 1},
                    {"target": "^ecs:RunTask ", "body": json.dumps({"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time."}]})})
        sent = self.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "hi"}])
        self.assertEqual(sent["Failed"], failed)
        self.assertIn("Capacity", self.client("ecs", self.line).run_task(taskDefinition="x")["failures"][0]["reason"])


class Rates(Rig):
    def test_calls_over_the_rate_are_refused(self):
        def put(rates):
            urllib.request.urlopen(urllib.request.Request(setting("PAAS_TEST_AWS_STATE") + "/rates", method="PUT", data=json.dumps(rates).encode()))
        # An operation that nothing else here calls: the buckets are one for all accounts.
        put({"DescribeTags": [0.01, 2]})
        self.addCleanup(put, {})
        elb = self.client("elbv2")
        for _ in range(2):
            elb.describe_tags(ResourceArns=[])
        self.refuses("Throttling", elb.describe_tags, ResourceArns=[])


if __name__ == "__main__":
    ran = unittest.main(exit=False).result
    bad = len(ran.failures) + len(ran.errors)
    print(f"test result: {'FAILED' if bad else 'ok'}. {ran.testsRun - bad} passed; {bad} failed; 0 ignored", flush=True)
    raise SystemExit(bool(bad))
