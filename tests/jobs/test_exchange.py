"""Certification logs: read as they were written, and never more than what was rounded."""

import numpy as np
import pandas as pd
import pytest

from smoothlearn import Certificate, read_certification_log, write_certification_log

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


@pytest.fixture
def certificate():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    counts = rng.multinomial(1000, np.stack([p / 2, 1 - p, p / 2], axis=1))
    return Certificate.from_votes(
        counts, winner=counts.argmax(axis=1), classes=np.array(["b", "a", "c"]), sigma=0.5,
        confidence_level=0.99, n_features=7,
    )  # fmt: skip


@pytest.fixture
def y():
    return np.random.default_rng(1).choice(["a", "b", "c"], 200)


def test_a_certificate_returns_exactly(certificate, y, tmp_path):
    write_certification_log(tmp_path / "log", certificate, y)
    read, truth = read_certification_log(tmp_path / "log", confidence_level=0.99, sigma=0.5)
    np.testing.assert_array_equal(certificate.classes[truth], y)
    np.testing.assert_array_equal(read.radius, certificate.radius)
    np.testing.assert_array_equal(read.abstained, certificate.abstained)
    sure = ~read.abstained
    assert 0 < sure.sum() < 200
    np.testing.assert_array_equal(certificate.classes[read.label[sure]], certificate.label[sure])
    np.testing.assert_array_equal(read.label[~sure], -1)
    assert (read.norm, read.confidence_level, read.sigma) == (2, 0.99, 0.5)
    for radius in (0.0, 0.3, 0.6):
        assert read.accuracy(truth, radius) == certificate.accuracy(y, radius) > 0
    write_certification_log(tmp_path / "again", read, truth)
    assert (tmp_path / "again").read_text() == (tmp_path / "log").read_text()


def test_the_reference_script_reads_it(certificate, y, tmp_path):
    index = np.arange(0, 2000, 10)
    write_certification_log(tmp_path / "log", certificate, y, index=index, seconds=5.123456)
    frame = pd.read_csv(tmp_path / "log", delimiter="\t")
    assert list(frame.columns) == ["idx", "label", "predict", "radius", "correct", "time"]
    np.testing.assert_array_equal(frame["idx"], index)
    assert (frame["time"] == "0:00:05.123456").all()
    assert (frame["radius"][frame["predict"] == -1] == 0.0).all()
    for radius in (0.0, 0.3, 0.6):  # as analyze.py has it
        accuracy = (frame["correct"] & (frame["radius"] >= radius)).mean()
        assert accuracy == certificate.accuracy(y, radius)


def log(tmp_path, *lines, header=HEADER):
    (tmp_path / "log").write_text(header + "".join(f"{line}\n" for line in lines))
    return tmp_path / "log"


def test_what_their_scripts_write(tmp_path):
    path = log(
        tmp_path,
        "0\t0\t-1\t0.0\t0\t0:02:35.760262",
        "100\t2\t2\t1.35\t1\t0:02:31.433809",
        "300\t6\t3\t0.658\t0\t0:02:31.573982",
        "49800\t996\t996\t0.41\t1\t1 day, 0:02:30.626514",
    )
    certificate, y = read_certification_log(path, confidence_level=0.999)
    np.testing.assert_array_equal(y, [0, 2, 6, 996])
    np.testing.assert_array_equal(certificate.label, [-1, 2, 3, 996])
    np.testing.assert_array_equal(certificate.abstained, [True, False, False, False])
    np.testing.assert_allclose(certificate.radius, [0, 1.345, 0.6575, 0.4095], rtol=1e-12)
    assert certificate.accuracy(y, radius=0.4) == 0.5
    with pytest.raises(ValueError, match="only votes of a fixed number"):
        certificate.at_confidence(0.9)


@pytest.mark.parametrize("form", ["{:.3}", "{:.4}", "{:.7g}", "{!r}", "{:.3e}"])
def test_a_rounded_radius_is_never_read_as_more(form, tmp_path):
    rng = np.random.default_rng(0)
    radii = np.concatenate([10 ** rng.uniform(-5, 3, 300), [1.0, 0.1, 0.125, 1.005, 9.995, 0.9995]])
    path = log(tmp_path, *(f"0\t0\t0\t{form.format(float(r))}\t1\t0:00:00" for r in radii))
    certificate, _ = read_certification_log(path, confidence_level=0.999)
    assert (certificate.radius <= radii).all()
    assert (certificate.radius >= radii * (1 - 0.0101)).all()


def test_infinite_radii_and_no_rows(tmp_path):
    certificate, y = read_certification_log(
        log(tmp_path, "0\t0\t0\tinf\t1\t0:00:00", ""), confidence_level=1.0, norm=np.inf
    )
    assert certificate.radius[0] == np.inf
    assert certificate.norm == np.inf
    write_certification_log(tmp_path / "again", certificate, y)
    again, _ = read_certification_log(tmp_path / "again", confidence_level=1.0)
    assert again.radius[0] == np.inf
    empty, y = read_certification_log(log(tmp_path), confidence_level=0.999)
    assert len(empty) == len(y) == 0


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("1\t2\t2\t0.5\t1", "line 3: 5 columns, and 6 names in line 1"),
        ("1\t2\t2\tfar\t1\t0:0:1", "line 3: radius 'far' is no number"),
        ("1\t2\t2\tnan\t1\t0:0:1", "line 3: radius nan is not >= 0"),
        ("1\t2\t2\t-0.5\t1\t0:0:1", "line 3: radius -0.5 is not >= 0"),
        ("1\tcat\t2\t0.5\t1\t0:0:1", "line 3: invalid literal .* 'cat'"),
        ("1\t-1\t2\t0.5\t0\t0:0:1", "line 3: label -1, predict 2"),
        ("1\t1\t-2\t0.5\t0\t0:0:1", "line 3: label 1, predict -2"),
        ("1\t2\t2\t0.5\t0\t0:0:1", "line 3: correct is 0, with label 2 and predict 2"),
        ("1\t2\t-1\t0.5\t0\t0:0:1", "line 3: radius 0.5, though predict -1 abstains"),
    ],
)
def test_bad_lines_are_named(line, match, tmp_path):
    path = log(tmp_path, "0\t1\t1\t0.5\t1\t0:0:1", line)
    with pytest.raises(ValueError, match=rf"log, {match}"):
        read_certification_log(path, confidence_level=0.999)


def test_other_files_are_refused(tmp_path):
    path = log(tmp_path, header="idx\tlabel\tpredict\tcorrect\ttime\n")
    with pytest.raises(ValueError, match="line 1: no column radius among"):
        read_certification_log(path, confidence_level=0.999)
    path.write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(ValueError, match="log is not text"):
        read_certification_log(path, confidence_level=0.999)
    path.write_text("")
    with pytest.raises(ValueError, match="no column label or predict or radius or correct"):
        read_certification_log(path, confidence_level=0.999)


def test_what_cannot_be_written(certificate, y, tmp_path):
    path = tmp_path / "log"
    with pytest.raises(ValueError, match="index must hold 200 integers"):
        write_certification_log(path, certificate, y, index=np.arange(3))
    with pytest.raises(ValueError, match="y must have shape"):
        write_certification_log(path, certificate, y[:3])
    with pytest.raises(ValueError, match="labels that the classifier never saw"):
        write_certification_log(path, certificate, np.full(200, "d"))
    assert not path.exists()
