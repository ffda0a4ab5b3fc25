"""What tests share: small recordings, file systems that fail, and readers that are no part of the package."""
