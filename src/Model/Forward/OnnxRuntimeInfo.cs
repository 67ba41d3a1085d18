// What ONNX Runtime this build has, for `doctor`. Runs no model.
using Microsoft.ML.OnnxRuntime;

namespace IptNative.Model.Forward;

/// <summary>The ONNX Runtime in use.</summary>
/// <param name="Version">The native library's version.</param>
/// <param name="Providers">Execution providers compiled into it.</param>
public sealed record OnnxRuntimeInfo(string Version, IReadOnlyList<string> Providers)
{
    /// <summary>Asks the native library.</summary>
    /// <returns>Its version and providers.</returns>
    /// <exception cref="DllNotFoundException">The native library cannot be loaded.</exception>
    public static OnnxRuntimeInfo Query()
    {
        OrtEnv env = OrtEnv.Instance();
        return new OnnxRuntimeInfo(env.GetVersionString(), env.GetAvailableProviders());
    }
}
