"""torchvision's RetinaNets with random weights under which they find much."""

import torch
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2


def random_model(v2: bool, seed: int = 0, **settings) -> RetinaNet:
    """With the 91 classes of the published weights, in evaluation mode; a few scores in a hundred exceed 0.05."""
    torch.manual_seed(seed)
    make = retinanet_resnet50_fpn_v2 if v2 else retinanet_resnet50_fpn
    model = make(weights=None, weights_backbone=None, **settings)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.75, 1.25)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    for block in (block for stage in (1, 2, 3, 4) for block in model.backbone.body[f"layer{stage}"]):
        torch.nn.init.uniform_(block.bn3.weight, 0.1, 0.2)
    for head in (model.head.classification_head, model.head.regression_head):
        for conv in (m for m in head.conv.modules() if isinstance(m, torch.nn.Conv2d)):
            torch.nn.init.kaiming_normal_(conv.weight)
    model.eval()
    predict = (model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg)
    with torch.no_grad():
        features = list(model.backbone(torch.randn(1, 3, 128, 128)).values())
        outputs = model.head(features).values()
        for conv, output, deviation in zip(predict, outputs, (1.5, 0.3), strict=True):
            conv.weight *= deviation / output.std()
    torch.nn.init.constant_(predict[0].bias, -6)
    return model
