# SPDX-License-Identifier: Apache-2.0
"""The form of examples/deploy/lws.yaml: the fields that it may have, with their types, as the custom
resource of LeaderWorkerSet v1 and the pods of Kubernetes have them. No cluster is asked."""
import re


def an_object(required, **properties):
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def list_of(item, least=1):
    return {"type": "array", "items": item, "minItems": least}


TEXT, WHOLE, YES_NO = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
VARIABLE = {"oneOf": [an_object("name value", name=TEXT, value=TEXT),
                      an_object("name valueFrom", name=TEXT, valueFrom=an_object(
                          "fieldRef", fieldRef=an_object("fieldPath", fieldPath={"enum": ["metadata.name", "status.podIP"]})))]}
CONTAINER = an_object("name image command", name={"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}, image=TEXT,
                      command=list_of(TEXT), env=list_of(VARIABLE),
                      volumeMounts=list_of(an_object("name mountPath", name=TEXT, mountPath=TEXT, readOnly=YES_NO)))
VOLUME = an_object("name", name=TEXT, emptyDir=an_object("", medium={"enum": ["", "Memory"]}),
                   secret=an_object("secretName", secretName=TEXT))
POD = an_object("containers", shareProcessNamespace=YES_NO, restartPolicy={"const": "Always"}, initContainers=list_of(CONTAINER),
                containers=list_of(CONTAINER), volumes=list_of(VOLUME))
FORM = an_object(
    "apiVersion kind metadata spec", apiVersion={"const": "leaderworkerset.x-k8s.io/v1"}, kind={"const": "LeaderWorkerSet"},
    metadata=an_object("name", name=TEXT, labels=TEXTS),
    spec=an_object("leaderWorkerTemplate", replicas=WHOLE, startupPolicy={"enum": ["LeaderCreated", "LeaderReady"]},
                   leaderWorkerTemplate=an_object(
                       "size restartPolicy workerTemplate", size=WHOLE,
                       restartPolicy={"enum": ["None", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart"]},
                       workerTemplate=an_object("spec", metadata=an_object("", labels=TEXTS), spec=POD))))


def environments(manifest):
    """Of each container of each pod, as LWS and the kubelet make them: (pod, container, environment)."""
    group = manifest["spec"]["leaderWorkerTemplate"]
    for index in range(group["size"]):
        pod = f"{manifest['metadata']['name']}-0" + (f"-{index}" if index else "")
        fields = {"metadata.name": pod, "status.podIP": f"10.1.0.{index + 1}"}
        for container in group["workerTemplate"]["spec"]["containers"]:
            made = {"LWS_LEADER_ADDRESS": f"{manifest['metadata']['name']}-0.eep.default", "LWS_GROUP_SIZE": str(group["size"]),
                    "LWS_WORKER_INDEX": str(index)}
            for variable in container["env"]:
                value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
                made[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: made[name.group(1)], value)
            yield pod, container["name"], made
