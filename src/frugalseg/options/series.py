"""Options of the commands that read folders of scans."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """Which DICOM series are scans."""

    series: list[str] = field(default_factory=list)
    """If the sub-folders of --images hold several DICOM series each: rules that choose one as the scan, whose case id
    is then the name of the sub-folder. Text that the description contains (* and ? are wildcards), not:TEXT,
    most-slices, thinnest; several rules narrow the choice in their order. By default every series is a scan."""
