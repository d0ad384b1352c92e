//! Projected volumes: several sources in one folder, among them what a pod identifies itself with to the API server.

use std::path::PathBuf;

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection},
};
use kube::{Api, api::PostParams};

use super::{
    environment::field,
    task::PodTask,
    volumes::{Data, files},
};
use crate::{Result, sandbox::workload::objects::api_error};

impl PodTask {
    /// Its files. Tokens are not renewed: a pod here does not live as long as one is valid.
    pub(super) async fn projected(&self, source: &ProjectedVolumeSource) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut content = Vec::new();
        for source in source.sources.iter().flatten() {
            if let Some(part) = &source.secret {
                content.extend(files(self.secret(&part.name, part.optional).await?, part.items.as_deref())?);
            }
            if let Some(part) = &source.config_map {
                content.extend(files(self.config_map(&part.name, part.optional).await?, part.items.as_deref())?);
            }
            let mut data = Data::new();
            for item in source.downward_api.iter().flat_map(|part| part.items.iter().flatten()) {
                let value = item.field_ref.as_ref().map(|of| field(&self.pod, &of.field_path)).unwrap_or_default();
                data.insert(item.path.clone(), value.into_bytes());
            }
            if let Some(part) = &source.service_account_token {
                data.insert(part.path.clone(), self.token(part).await?.into_bytes());
            }
            content.extend(files(data, None)?);
        }
        Ok(content)
    }

    async fn token(&self, wanted: &ServiceAccountTokenProjection) -> Result<String> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.kubelet.client.clone(), &self.namespace());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: wanted.audience.iter().cloned().collect(),
                expiration_seconds: wanted.expiration_seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(self.pod_name()),
                    uid: Some(self.uid()),
                }),
            },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        Ok(answer.map_err(api_error)?.status.map(|status| status.token).unwrap_or_default())
    }
}
