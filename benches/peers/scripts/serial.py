"""One object after the other with the Kubernetes client of Python, then asking until all claims are bound."""

import sys
import time

import yaml
from kubernetes import client, config

file, namespace, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
config.load_kube_config()
api = client.CoreV1Api()
with open(file) as text:
    for item in yaml.load_all(text, Loader=yaml.CSafeLoader):
        if item["kind"] == "PersistentVolume":
            api.create_persistent_volume(item)
        else:
            api.create_namespaced_persistent_volume_claim(namespace, item)
while True:
    claims = api.list_namespaced_persistent_volume_claim(namespace).items
    if sum(claim.status.phase == "Bound" for claim in claims) == count:
        break
    time.sleep(0.25)
