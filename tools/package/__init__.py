"""What users get: the installation, man pages and completion, the files of the HTML report."""
