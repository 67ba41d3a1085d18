// `parity --device`: a fixture of PyTorch's replayed where memory is not the host's, and a weight format's kernels there.
using IptNative.Kernels.Tests.Gpu;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Parity;
using Xunit;

namespace IptNative.Device.Tests;

public sealed class DeviceParityTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-").FullName;

    [Fact]
    public void TheFixtureIsMet()
    {
        // What is not in a fixture is skipped. Traces, gradients in four ways (one is DeviceStepTests') and other texts are left to a GPU: the emulation needs seconds for a pass.
        foreach (string name in (string[])["config.json", "model.safetensors", "prompt.npy", "input_ids.npy", "attention_mask.npy", "labels.npy", "logits64.npy",
            "encoder_position_bias.npy", "relative_buckets.npy", "encoder_hidden.npy"])
            File.Copy(Path.Combine(Goldens.Folder, name), Path.Combine(_folder, name));
        File.WriteAllText(Path.Combine(_folder, "expected.json"), string.Create(System.Globalization.CultureInfo.InvariantCulture, $$"""{ "loss64": {{Goldens.Expected("loss64"):R}} }"""));
        using HostAcceleratorDevice device = HostAcceleratorDevice.Create();
        ParityReport report = ParityRun.Replay(_folder, null, 1, device);
        Assert.True(report.Passed, string.Join("; ", report.Rows.Where(r => r.Status == ParityStatus.Failed).Select(r => $"{r.Name} {r.MaxRel}: {r.Worst}")));
        foreach (string name in (string[])["relative_buckets", "encoder_position_bias", "logits", "loss"])
            Assert.Equal(ParityStatus.Passed, report.Rows.Single(r => r.Name == name).Status);
        Assert.Equal("a device's own kernels keep no padded hidden states", report.Rows.Single(r => r.Name == "encoder_hidden").Reason);
        Assert.Equal("not in this fixture", report.Rows.Single(r => r.Name == "grad_prompt").Reason);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
