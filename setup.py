"""What setup.cfg can't express: packages found by themselves, and two folders of the repository's root as packages."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["reid_accel", "reid_accel.*"]), "reid_accel.configs", "reid_accel.launch"],
    package_dir={"reid_accel.configs": "configs", "reid_accel.launch": "launch"},
)
