#!/usr/bin/env python3
"""Writes the table of request parameters that the sandbox checks.

    scripts/stripe_parameters.py PATH/openapi.json > data/stripe_parameters.tsv

PATH names Stripe's OpenAPI document (https://github.com/stripe/openapi, MIT). Only names, types, enum
values and lengths are taken. Parameters of payment methods other than cards are known by name only.

Lines: `@name a|b` is a list of values; `METHOD /path` opens an endpoint; `parameter<TAB>types` follows.
Types, joined by `/`: int num bool str str:MAX enum:a|b enum:@name map obj list. Marks after them: `!` required,
`?` may be sent empty. `[*]` with `any:a|b` names keys whose content is not checked.
"""

import json
import sys

CARD_LIKE = {"card", "metadata", "billing_details", "allow_redisplay", "type", "customer", "expand",
             "payment_method", "radar_options"}
OPAQUE_PARENTS = {"payment_method_options", "payment_method_data"}
named = {}


def values(enum):
    text = "|".join(str(v) for v in enum)
    if len(text) <= 160:
        return text
    return "@" + named.setdefault(text, f"list{len(named) + 1}")


def leaf(schema):
    if "enum" in schema:
        return "enum:" + values([v for v in schema["enum"] if v != ""])
    kind = {"integer": "int", "number": "num", "boolean": "bool", "string": "str"}[schema["type"]]
    return f"{kind}:{schema['maxLength']}" if kind == "str" and "maxLength" in schema else kind


def opaque(path, parent, name):
    if parent in OPAQUE_PARENTS:
        return name not in CARD_LIKE
    return path == "" and parent == "payment_methods" and name not in CARD_LIKE


def walk(schema, path, name, required, parent, rows):
    options = schema.get("anyOf", [schema])
    empty = any(o.get("enum") == [""] for o in options)
    options = [o for o in options if o.get("enum") != [""]]
    marks = ("!" if required else "") + ("?" if empty or "" in options[0].get("enum", []) else "")
    leaves, children = [], []
    for option in options:
        if option.get("type") == "array":
            leaves.append("list")
            children.append((option["items"], path + "[]", name, False))
        elif option.get("type") == "object" and "additionalProperties" in option and "properties" not in option:
            leaves.append("map")
        elif option.get("type") == "object":
            leaves.append("obj")
            for key, value in option.get("properties", {}).items():
                child = f"{path}[{key}]" if path else key
                must = key in option.get("required", []) and len(options) == 1
                children.append((value, child, key, must))
        else:
            leaves.append(leaf(option))
    if path:
        rows.append((path, "/".join(leaves) + marks))
    unchecked = [key for _, _, key, _ in children if opaque(path, parent if path == "" else name, key)]
    if unchecked:
        rows.append((f"{path}[*]" if path else "*", "any:" + values(unchecked)))
    for value, child, key, must in children:
        if key not in unchecked:
            walk(value, child, key, must, name, rows)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    blocks = []
    for path, methods in spec["paths"].items():
        for method in ("get", "post", "delete"):
            if method not in methods:
                continue
            operation, rows = methods[method], []
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    walk(parameter["schema"], parameter["name"], parameter["name"],
                         parameter.get("required", False), "", rows)
            body = operation.get("requestBody", {}).get("content", {}).get("application/x-www-form-urlencoded", {})
            root = path.rsplit("/", 1)[1]
            walk(body.get("schema", {"type": "object"}), "", root, False, root, rows)
            blocks.append((f"{method.upper()} {path}", rows))
    print("# Request parameters of the endpoints the sandbox has. Made by scripts/stripe_parameters.py from Stripe's")
    print(f"# OpenAPI document {spec['info']['version']} (https://github.com/stripe/openapi, MIT). Do not edit.")
    for text, name in named.items():
        print(f"@{name} {text}")
    for head, rows in blocks:
        print(head)
        for path, types in rows:
            print(f"{path}\t{types}")


main()
