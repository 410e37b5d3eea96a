//! `POST /v1/uploads/{id}/commit`
