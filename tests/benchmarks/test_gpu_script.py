import json

from benchmarks.gpu import main


def test_the_smallest_sizes_run_without_a_gpu(capsys) -> None:
    main(["--smallest", "--models", "detr", "--precisions", "bf16", "--ways"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not [line for line in lines if line["what"] in ("failed", "no time left")]
    ours = {line["what"]: line for line in lines if line.get("side") == "vitjax"}
    assert ours.keys() == {"inference", "training"}
    for line in ours.values():
        assert line["images_per_second"] > 0 and 0 < line["utilisation"] < 10 and line["plan_bytes"] > 0
    sampled = [line for line in lines if line["what"] == "sampling"]
    assert {line["dtype"] for line in sampled} == {"bfloat16"}
    assert {"sampling_at", "gathered, recomputed"} <= {line["side"] for line in sampled}
    assert all(0 < line["forward_ms"] and 0 < line["with_backward_ms"] for line in sampled)
    by_jax = [line["difference"] for line in sampled if line["side"] != "PyTorch grid_sample"]
    assert len(by_jax) == 5 and all(share < 0.02 for share in by_jax)


def test_processes_are_timed_in_turn_and_late_ones_left_out(capfd) -> None:
    words = ["--sides", "attention", "--precisions", "tf32", "--batches", "1", "--repeats", "1"]
    main(words)
    main([*words, "--ready-within", "0"])
    *timed, late = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert [(each["what"], each["side"]) for each in timed] == [("attention", "xla"), ("attention", "xla, dropout")]
    assert all(each["forward_ms"] > 0 and each["difference"] == 0 for each in timed)
    assert late == {"what": "failed", "group": ["attention", "tf32"], "error": "not ready in time"}
