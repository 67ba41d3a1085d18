// `parity --device`: a fixture of PyTorch's replayed where memory is not the host's, and a weight format's kernels there.
using IptNative.Kernels;
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Parity;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceParityTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    [Fact]
    public void TheFixtureIsMetByBothForwardPasses()
    {
        // The traces of tens of steps are left to a GPU: the emulation needs a second for a step.
        foreach (string name in (string[])["config.json", "model.safetensors", "expected.json", "prompt.npy", "input_ids.npy", "attention_mask.npy", "labels.npy", "logits64.npy", "grad_prompt64.npy",
            "encoder_position_bias.npy", "relative_buckets.npy", "encoder_hidden.npy", "greedy_noprompt_tokens.npy", "greedy_noprompt_scores.npy"])
            File.Copy(Path.Combine(Goldens.Folder, name), Path.Combine(_folder, name));
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        var place = new HostAcceleratorPlace();
        RuntimePlace.Provide(device, place);
        ParityReport report = ParityRun.Replay(_folder, null, 1, device);
        Assert.True(report.Passed, string.Join("; ", report.Rows.Where(r => r.Status == ParityStatus.Failed).Select(r => $"{r.Name} {r.MaxRel}: {r.Worst}")));
        Assert.True(report.Count(ParityStatus.Passed) > 8, $"{report.Count(ParityStatus.Passed)} quantities");
        foreach (string name in (string[])["encoder_position_bias", "logits", "loss", "greedy_noprompt_scores", "grad_prompt", "grad_prompt (ort, blocks)", "grad_prompt (native, full)"])
            Assert.Equal(ParityStatus.Passed, report.Rows.Single(r => r.Name == name).Status);
        Assert.Equal("a device's own kernels keep no padded hidden states", report.Rows.Single(r => r.Name == "encoder_hidden").Reason);
        // grad_prompt and its label-smoothed twin are in no file of the second, so two ways with ONNX Runtime once each.
        Assert.Equal(place.Runs.Begun, place.Runs.Ended);
        Assert.True(place.Runs.Begun >= 4);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
